//! Log lines on standard error.

use crate::args::{LogFormat, Logging};
use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging; RUST_LOG, where set, says what is logged.
pub(crate) fn start(logging: &Logging) -> anyhow::Result<()> {
    let default = match logging.verbose {
        0 => "warn,heddle=info,heddle_builder=info,heddle_node=info,heddle_store=warn",
        1 => "info",
        2 => "debug,hyper=info,jsonrpsee_server=info",
        _ => "trace",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => EnvFilter::try_new(&text).context("RUST_LOG is not a log filter")?,
        Err(_) => EnvFilter::new(default),
    };
    let colour = std::env::var_os("NO_COLOR").is_none()
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let registry = tracing_subscriber::registry().with(filter);
    match logging.format {
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false))
            .try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
    }
    .context("logging does not start")
}
