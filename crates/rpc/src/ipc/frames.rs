//! Where a request ends on a stream of requests.

/// Why no request can be made of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Neither an object nor a list, or no UTF-8.
    NoJson,
    /// The request goes on after as many bytes as it may have.
    TooLarge,
}

/// Cuts a stream into JSON objects and lists. It looks at every byte once and keeps only the request that is not whole
/// yet; whether the JSON is right is for others to say.
#[derive(Debug)]
pub(super) struct Frames {
    bytes_max: usize,
    bytes: Vec<u8>,
    depth: usize,
    is_string: bool,
    is_escaped: bool,
}

impl Frames {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: Vec::new(), depth: 0, is_string: false, is_escaped: false }
    }

    /// Takes bytes off the front of `input` up to the end of a request, which it gives, or all of them.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<String>, Broken> {
        let mut taken = 0;
        let mut start = 0;
        for byte in input.iter() {
            taken += 1;
            if self.depth == 0 {
                match byte {
                    b'{' | b'[' => start = taken - 1,
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        start = taken;
                        continue;
                    }
                    _ => return Err(Broken::NoJson),
                }
            }
            if self.ends_with(*byte) {
                let frame = self.keep(&input[start..taken]);
                *input = &input[taken..];
                frame?;
                let text = String::from_utf8(std::mem::take(&mut self.bytes));
                return text.map(Some).map_err(|_| Broken::NoJson);
            }
        }
        let rest = self.keep(&input[start..]);
        *input = &[];
        rest.map(|()| None)
    }

    /// Whether this byte is the last one of a request.
    const fn ends_with(&mut self, byte: u8) -> bool {
        if self.is_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.is_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(Broken::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(stream: &[u8], piece: usize, bytes_max: usize) -> Result<Vec<String>, Broken> {
        let mut frames = Frames::new(bytes_max);
        let mut found = Vec::new();
        for mut input in stream.chunks(piece) {
            while !input.is_empty() {
                found.extend(frames.take(&mut input)?);
            }
        }
        Ok(found)
    }

    #[test]
    fn requests_need_nothing_between_them_and_may_have_white_space() {
        let stream = br#"{"a":"}\"]{"}[1,[2]] 
 {}"#;
        for piece in 1..stream.len() {
            let found = all(stream, piece, 100).unwrap();
            assert_eq!(found, [r#"{"a":"}\"]{"}"#, "[1,[2]]", "{}"], "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_from_what_is_too_large() {
        assert_eq!(all(b"{} x", 2, 100), Err(Broken::NoJson));
        assert_eq!(all(b"}", 1, 100), Err(Broken::NoJson));
        assert_eq!(all(b"[\xff]", 3, 100), Err(Broken::NoJson));
        assert_eq!(all(b"[1,2,3]", 2, 6), Err(Broken::TooLarge));
        assert_eq!(all(b"[1,2,3]", 7, 7).unwrap(), ["[1,2,3]"]);
        assert_eq!(all(&b"[".repeat(50), 7, 20), Err(Broken::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_do_no_harm(
            stream in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50,
        ) {
            let _ = all(&stream, piece, 60);
        }
    }
}
