//! What a client wants traced how, in geth's form.

use std::time::Duration;

use alloy_rpc_types_trace::geth::{
    GethDebugBuiltInTracerType, GethDebugTracerType, GethDebugTracingCallOptions,
    GethDebugTracingOptions,
};
use revm_inspectors::tracing::{DebugInspector, DebugInspectorError};

use crate::{
    RpcLimits,
    errors::Failure,
    params::{Argument, from_json},
    watch::{Deadline, Guard, Kept},
};

/// How to trace: the tracer with its options.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options(GethDebugTracingOptions);

/// As [`Options`], and what is different where a call runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions(pub(crate) GethDebugTracingCallOptions);

impl Argument for Options {
    fn parse(json: &str) -> Result<Self, String> {
        checked(from_json(json)?).map(Self)
    }
}

impl Argument for CallOptions {
    fn parse(json: &str) -> Result<Self, String> {
        let options: GethDebugTracingCallOptions = from_json(json)?;
        if let Some(overrides) = &options.state_overrides {
            crate::overrides::check(overrides)?;
        }
        let tracing_options = checked(options.tracing_options)?;
        Ok(Self(GethDebugTracingCallOptions { tracing_options, ..options }))
    }
}

fn checked(mut options: GethDebugTracingOptions) -> Result<GethDebugTracingOptions, String> {
    match &options.tracer {
        Some(GethDebugTracerType::JsTracer(name)) if !name.is_empty() => {
            let name: String = name.chars().take(40).collect();
            return Err(format!(
                "unknown tracer {name:?}: there are callTracer, prestateTracer, 4byteTracer, flatCallTracer, \
                 muxTracer, noopTracer, erc7562Tracer and, without a name, the struct logger; tracers in JavaScript \
                 are not supported"
            ));
        }
        Some(GethDebugTracerType::BuiltInTracer(GethDebugBuiltInTracerType::MuxTracer)) => {
            mux_defaults(&mut options.tracer_config.0);
        }
        _ => {}
    }
    if let Some(timeout) = &options.timeout {
        duration(timeout)?;
    }
    Ok(options)
}

/// geth takes null for a muxed tracer's missing options, which our inspector knows for some tracers only, and `{}` for
/// others.
fn mux_defaults(config: &mut serde_json::Value) {
    let Some(tracers) = config.as_object_mut() else { return };
    for (name, options) in tracers {
        let takes_options = matches!(&**name, "callTracer" | "prestateTracer" | "flatCallTracer");
        if takes_options && options.is_null() {
            *options = serde_json::Value::Object(serde_json::Map::new());
        } else if !takes_options && options.as_object().is_some_and(serde_json::Map::is_empty) {
            *options = serde_json::Value::Null;
        }
    }
}

impl Options {
    /// The options of a call, as far as they are about tracing.
    pub(crate) fn of_call(options: &CallOptions) -> Self {
        Self(options.0.tracing_options.clone())
    }

    pub(crate) fn inspector(&self) -> Result<DebugInspector, Failure> {
        DebugInspector::new(self.0.clone()).map_err(|error: DebugInspectorError| {
            Failure::params(match &self.0.tracer {
                Some(tracer) => format!("{}: {error}", tracer.as_str()),
                None => error.to_string(),
            })
        })
    }

    /// Bounds a request: by the node's limits, and by the client's own where they are narrower.
    pub(crate) fn guard(&self, limits: &RpcLimits) -> Guard {
        let wanted = self.0.timeout.as_deref().and_then(|timeout| duration(timeout).ok());
        let allowed =
            wanted.map_or(limits.trace_time_max, |wanted| wanted.min(limits.trace_time_max));
        Guard::new(Deadline::new(allowed), limits.trace_bytes_max, self.kept())
    }

    fn kept(&self) -> Kept {
        let config = &self.0.config;
        let is_struct_logger =
            self.0.tracer.as_ref().is_none_or(|tracer| tracer.as_str().is_empty());
        Kept {
            steps: is_struct_logger,
            stack: config.is_stack_enabled(),
            memory: config.is_memory_enabled(),
            steps_max: config.limit.unwrap_or_default(),
        }
    }
}

/// A duration as Go writes it: numbers, possibly with a fraction, each with its unit, such as `1m30s` or `1.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {:?}", text.chars().take(40).collect::<String>());
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(invalid()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = &rest[unit..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        for wrong in ["", "5", "s", "5 s", "-5s", "1e9h", "9999999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tracer_that_nobody_knows_is_refused_by_name() {
        let error = Options::parse(r#"{"tracer":"{step: function() {}}"}"#).unwrap_err();
        assert!(error.contains("unknown tracer") && error.contains("JavaScript"), "{error}");
        assert!(
            Options::parse(r#"{"tracer":"callTracer","tracerConfig":{"onlyTopCall":true}}"#)
                .is_ok()
        );
        assert!(Options::parse(r#"{"tracer":""}"#).is_ok());
        assert!(Options::parse(r#"{"timeout":"soon"}"#).is_err());
    }

    #[test]
    fn muxed_tracers_take_null_or_nothing_for_their_options() {
        let options = r#"{"tracer":"muxTracer","tracerConfig":{"callTracer":null,"prestateTracer":{},"4byteTracer":{},"noopTracer":null}}"#;
        Options::parse(options).unwrap().inspector().unwrap();
    }

    #[test]
    fn a_client_can_ask_for_less_time_than_the_limit_but_not_for_more() {
        let limits = RpcLimits { trace_time_max: Duration::from_secs(2), ..RpcLimits::default() };
        for (asked, message) in [("0s", "timeout = 0ns"), ("1h", "timeout = 2s")] {
            let options = Options::parse(&format!(r#"{{"timeout":"{asked}"}}"#)).unwrap();
            let failure = options.guard(&limits).deadline().failure().to_string();
            assert!(failure.contains(message), "{failure}");
        }
    }
}
