//! Where a node is.

use crate::LoadError;
use hyper::Uri;
use std::{fmt, str::FromStr};

/// How to talk to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    WebSocket,
}

/// Where a node is: `http://host:port/path` or `ws://host:port/path`.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl Endpoint {
    /// The same place over WebSocket.
    pub(crate) fn websocket(&self) -> Self {
        Self { scheme: Scheme::WebSocket, ..self.clone() }
    }

    /// Host and port, as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Without the path: providers' paths hold keys.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::WebSocket => "ws",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Endpoint {
    type Err = LoadError;

    fn from_str(url: &str) -> Result<Self, LoadError> {
        let fail = |reason: &str| LoadError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|_| fail("write http://HOST:PORT or ws://HOST:PORT"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("ws") => Scheme::WebSocket,
            Some("https" | "wss") => {
                return Err(fail("encrypted connections are not supported, use http:// or ws://"));
            }
            _ => return Err(fail("write http://HOST:PORT or ws://HOST:PORT")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| fail("it names no host"))?.to_owned();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(fail("user names and passwords are not supported"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Ok(Self { scheme, host, port: uri.port_u16().unwrap_or(80), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let endpoint: Endpoint = "http://127.0.0.1:8545".parse().unwrap();
        assert_eq!((endpoint.port, endpoint.path.as_str()), (8545, "/"));
        let endpoint: Endpoint = "ws://node.example/v3/secret".parse().unwrap();
        assert_eq!((endpoint.port, endpoint.path.as_str()), (80, "/v3/secret"));
        assert_eq!(endpoint.to_string(), "ws://node.example:80");
    }

    #[test]
    fn wrong_addresses_say_what_is_wrong() {
        for (url, reason) in [
            ("https://node.example", "encrypted"),
            ("127.0.0.1:8545", "http://HOST"),
            ("ftp://127.0.0.1", "http://HOST"),
            ("", "http://HOST"),
            ("http://user:word@127.0.0.1:1", "passwords"),
        ] {
            let error = url.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
