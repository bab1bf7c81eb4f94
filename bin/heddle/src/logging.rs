//! Log lines on standard error.

use crate::args::{LogFormat, Logging};
use anyhow::Context;
use heddle_node::LogSwitch;
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::dynamic_filter_fn, fmt, prelude::*};

/// Starts logging; RUST_LOG, where set, says what is logged. The switch, while it is off, lets only warnings and errors
/// through.
pub(crate) fn start(logging: &Logging) -> anyhow::Result<LogSwitch> {
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
    let switch = LogSwitch::default();
    let seen = switch.clone();
    let switched = dynamic_filter_fn(move |event, _| *event.level() <= Level::WARN || seen.is_on());
    match logging.format {
        LogFormat::Text => {
            let layer =
                fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
            registry.with(layer.with_filter(switched)).try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().with_writer(std::io::stderr);
            registry.with(layer.with_filter(switched)).try_init()
        }
    }
    .context("logging does not start")?;
    Ok(switch)
}
