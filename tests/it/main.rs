//! Promises to users, kept by the program as it is installed.

mod bad_input;
mod corpus;
mod options;
mod page;
mod promises;
mod support;
mod texts;
mod tidy;
