//! What ends an execution that nobody pays for: time, and how much a trace of it may record.

use std::time::{Duration, Instant};

use revm::{
    Inspector,
    context_interface::ContextTr,
    interpreter::{
        CallInputs, CallOutcome, CreateInputs, CreateOutcome, InstructionResult, Interpreter,
        interpreter_types::LoopControl,
    },
    primitives::Log,
};

use crate::errors::Failure;

/// When a call has to be finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    pub(crate) fn new(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed }
    }

    fn is_over(self) -> bool {
        Instant::now() > self.at
    }

    pub(crate) fn failure(self) -> Failure {
        Failure::server(format!("execution aborted (timeout = {:?})", self.allowed))
    }

    pub(crate) fn check(self) -> Result<(), Failure> {
        if self.is_over() { Err(self.failure()) } else { Ok(()) }
    }
}

/// Stops a call that computes for too long.
#[derive(Debug)]
pub(crate) struct Clock {
    deadline: Deadline,
    steps: u32,
    is_over: bool,
}

impl Clock {
    /// Instructions between two looks at the time: a few microseconds.
    const STEPS_UNWATCHED: u32 = 1_024;

    pub(crate) const fn new(deadline: Deadline) -> Self {
        Self { deadline, steps: 0, is_over: false }
    }

    /// Whether it stopped the call, whose result then means nothing.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    fn tick(&mut self) {
        self.steps += 1;
        if self.steps >= Self::STEPS_UNWATCHED {
            self.steps = 0;
            self.is_over |= self.deadline.is_over();
        }
    }
}

/// Ends the frame. Callers end too, each at its next instruction.
pub(crate) fn halt(interpreter: &mut Interpreter) {
    if interpreter.bytecode.is_not_end() {
        interpreter.halt(InstructionResult::OutOfGas);
    }
}

impl<CTX> Inspector<CTX> for Clock {
    fn step(&mut self, interpreter: &mut Interpreter, _: &mut CTX) {
        self.tick();
        if self.is_over {
            halt(interpreter);
        }
    }
}

/// What a tracer keeps of every instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Anything at all.
    pub(crate) steps: bool,
    pub(crate) stack: bool,
    pub(crate) memory: bool,
    /// So many of them at most; 0 for all.
    pub(crate) steps_max: u64,
}

/// Stops a traced execution that takes too long or records too much. One is used for all transactions of a request.
#[derive(Debug)]
pub(crate) struct Guard {
    clock: Clock,
    kept: Kept,
    steps: u64,
    bytes_left: usize,
    bytes_max: usize,
    is_full: bool,
}

impl Guard {
    /// What a recorded instruction takes besides stack and memory.
    const STEP_BYTES: usize = 192;
    /// What a recorded frame takes besides its input and output.
    const FRAME_BYTES: usize = 512;
    const LOG_BYTES: usize = 192;

    pub(crate) const fn new(deadline: Deadline, bytes_max: usize, kept: Kept) -> Self {
        let clock = Clock::new(deadline);
        Self { clock, kept, steps: 0, bytes_left: bytes_max, bytes_max, is_full: false }
    }

    /// An error if an execution under this guard was stopped or the time is over.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.is_full {
            return Err(Failure::Limit(format!(
                "the trace is larger than the {} bytes that one may record; leave out memory and stack, limit the \
                 steps, or trace fewer transactions",
                self.bytes_max
            )));
        }
        if self.clock.is_over {
            Err(self.clock.deadline.failure())
        } else {
            self.deadline().check()
        }
    }

    pub(crate) const fn deadline(&self) -> Deadline {
        self.clock.deadline
    }

    /// Starts to count instructions anew, for the next transaction.
    pub(crate) const fn next_transaction(&mut self) {
        self.steps = 0;
    }

    /// Takes something that is kept off what may be.
    pub(crate) fn record(&mut self, bytes: usize) {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.is_full = true,
        }
    }

    fn record_step(&mut self, interpreter: &Interpreter) {
        if self.kept.steps_max != 0 && self.steps >= self.kept.steps_max {
            return;
        }
        self.steps += 1;
        let stack = if self.kept.stack { interpreter.stack.len() * 32 } else { 0 };
        let memory = if self.kept.memory { interpreter.memory.len() } else { 0 };
        self.record(Self::STEP_BYTES + stack + memory);
    }
}

impl<CTX: ContextTr> Inspector<CTX> for Guard {
    fn step(&mut self, interpreter: &mut Interpreter, _: &mut CTX) {
        self.clock.tick();
        if self.kept.steps {
            self.record_step(interpreter);
        }
        if self.clock.is_over || self.is_full {
            halt(interpreter);
        }
    }

    fn log(&mut self, _: &mut CTX, log: Log) {
        self.record(Self::LOG_BYTES + log.data.data.len());
    }

    fn call(&mut self, _: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.record(Self::FRAME_BYTES + inputs.input.len());
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.record(outcome.result.output.len());
    }

    fn create(&mut self, _: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.record(Self::FRAME_BYTES + inputs.init_code().len());
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.record(outcome.result.output.len());
    }
}
