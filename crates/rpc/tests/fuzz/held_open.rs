//! Clients that never finish what they begin.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

/// How many there are.
const CLIENTS: usize = 100;

/// Connections in every stage of being slow, for as long as this lives.
#[derive(Debug)]
pub(crate) struct HeldOpen(
    #[expect(dead_code, reason = "they are open, that is all")] Vec<TcpStream>,
);

impl HeldOpen {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let call =
            r#"{"jsonrpc":"2.0","id":1,"method":"debug_traceBlockByNumber","params":["0x1"]}"#;
        let head = |length: usize| {
            format!(
                "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            )
        };
        let upgrade = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        // The header of a text message of 65,535 bytes, masked, and its beginning.
        let message_begun = [&[0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0], &b"{"[..]].concat();
        let stages: [Vec<u8>; 6] = [
            // Says nothing; half a head; half a body.
            Vec::new(),
            head(500).as_bytes()[..40].to_vec(),
            [head(500).as_bytes(), b"{"].concat(),
            // Asks for a lot, over and over, and reads none of it.
            format!("{}{call}", head(call.len())).repeat(50).into_bytes(),
            // A WebSocket, and one whose message has just begun.
            upgrade.as_bytes().to_vec(),
            [upgrade.as_bytes(), &message_begun].concat(),
        ];
        let clients = (0..CLIENTS).map(|client| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&stages[client % stages.len()]).unwrap();
            stream
        });
        Self(clients.collect())
    }
}
