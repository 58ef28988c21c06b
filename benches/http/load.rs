//! Requests, and connections that send them one after another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nearkin::server::qdrant::numbers::CONTENT_TYPE;
use serde_json::json;

use crate::{K, NAME};

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// A new one.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, answer: Vec::with_capacity(1 << 16) }
    }

    /// Status and body of the answer to a request.
    pub fn ask(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.write_all(request).expect("the server reads");
        self.answer.clear();
        loop {
            if let Some((status, body)) = whole(&self.answer) {
                return (status, &self.answer[body..]);
            }
            let mut buffer = [0; 1 << 14];
            let n = self.stream.read(&mut buffer).expect("the server answers");
            assert!(n > 0, "the server closed: {}", String::from_utf8_lossy(&self.answer));
            self.answer.extend_from_slice(&buffer[..n]);
        }
    }
}

/// Status of an answer that is whole, and where its body begins.
fn whole(answer: &[u8]) -> Option<(u16, usize)> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).expect("headers are text");
    let length = text.split("content-length: ").nth(1)?.split('\r').next()?;
    let length: usize = length.parse().expect("a number");
    let status = text.split(' ').nth(1)?.parse().expect("a status");
    (answer.len() >= head + length).then_some((status, head))
}

/// A request as it is sent.
pub fn request(path: &str, (kind, body): (&str, &[u8]), key: Option<&str>) -> Vec<u8> {
    let key = key.map_or(String::new(), |key| format!("api-key: {key}\r\n"));
    let head = format!(
        "POST /collections/{NAME}/points/{path} HTTP/1.1\r\nhost: localhost\r\n{key}\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A search as JSON.
pub fn as_json(query: &[f32], key: Option<&str>) -> Vec<u8> {
    let body = json!({"vector": query, "limit": K}).to_string();
    request("search", ("application/json", body.as_bytes()), key)
}

/// The same with the vector as bytes.
pub fn as_bytes(query: &[f32], key: Option<&str>) -> Vec<u8> {
    let head = json!({"vector": format!("f32:0:{}", query.len()), "limit": K}).to_string();
    let mut body = (head.len() as u32).to_le_bytes().to_vec();
    body.extend_from_slice(head.as_bytes());
    query.iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
    request("search", (CONTENT_TYPE, &body), key)
}

/// Many searches in one request, as JSON.
pub fn batch(queries: &[Vec<f32>], key: Option<&str>) -> Vec<u8> {
    let searches: Vec<_> =
        queries.iter().map(|query| json!({"vector": query, "limit": K})).collect();
    let body = json!({"searches": searches}).to_string();
    request("search/batch", ("application/json", body.as_bytes()), key)
}
