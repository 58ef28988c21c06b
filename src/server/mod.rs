//! HTTP: collections behind the API that vector clients already speak.
//!
//! In: requests of Qdrant's REST. Out: its answers, from [`engine`](crate::engine). Only the modules here know of sockets, keys and
//! JSON bodies; the library below blocks and knows none of them.
//!
//! A request's way: `serve` accepts its connection, `watched` closes it if its client keeps it waiting, `crowd` if others need its place; `dispatch` finds its route
//! in `routes`, asks `keys` who sends it, reads its `body`, and gives it to a worker of `work`; a handler of `qdrant` reads it, asks a collection of
//! the `catalog`, and makes a `reply`. Beside: `fair`, who works when; `ledger`, what is
//! written down (`log`, `audit`, `metrics`, of which `stages` says where the time goes); `lanes`, which thread works, `lookout`, who reads sockets meanwhile, and `pace`, how what is read gives way; `ui`, a page that shows it, and `openapi`, which tells of all routes; `upkeep`, what is done while nobody waits. Every limit is in `limits`.

mod aliases;
pub mod audit;
mod body;
pub mod cache;
mod call;
mod catalog;
mod crowd;
mod dispatch;
pub mod fair;
pub mod keys;
mod lanes;
mod ledger;
pub mod limits;
pub mod log;
mod lookout;
pub mod metrics;
pub mod moment;
mod openapi;
mod pace;
pub mod qdrant;
mod reply;
mod router;
mod routes;
mod sent;
mod serve;
pub mod stages;
mod ui;
mod upkeep;
mod watched;
mod work;

pub use cache::front::FrontSettings;
pub use router::{On, Scope};
pub use routes::listed;
pub use serve::{ServeSettings, Server};
