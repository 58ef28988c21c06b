//! Server-sent events, as they come: bytes in pieces of any size, events out.

/// Longest event: an answer in one.
const EVENT_BYTES: usize = 4 << 20;

/// What was read of a stream of events.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    after_cr: bool,
    is_too_long: bool,
}

impl Events {
    /// The data of all events that end in these bytes.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        for &byte in bytes {
            let was_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                // The second half of one end of a line.
                b'\n' if was_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.push(byte),
            }
        }
        events
    }

    /// Whether an event was longer than is read.
    pub fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    fn push(&mut self, byte: u8) {
        if self.line.len() >= EVENT_BYTES {
            self.is_too_long = true;
        } else {
            self.line.push(byte);
        }
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                None => self.data = Some(value.to_vec()),
                Some(data) if data.len() + value.len() >= EVENT_BYTES => self.is_too_long = true,
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let text = b": hello\r\n\r\nevent: x\r\ndata: {\"a\":1}\r\n\r\ndata:one\ndata: two\n\n\rid: 7\rdata:  three\r\rdata: cut";
        let expected: [&[u8]; 3] = [b"{\"a\":1}", b"one\ntwo", b" three"];
        assert_eq!(Events::default().read(text), expected);
        for size in 1..text.len() {
            let mut events = Events::default();
            let all: Vec<Vec<u8>> =
                text.chunks(size).flat_map(|piece| events.read(piece)).collect();
            assert_eq!(all, expected, "pieces of {size}");
            assert!(!events.is_too_long());
        }
    }

    #[test]
    fn an_event_that_is_too_long_is_said_to_be() {
        let mut events = Events::default();
        events.read(b"data: ");
        events.read(&vec![b'x'; EVENT_BYTES + 1]);
        assert!(events.is_too_long());
    }
}
