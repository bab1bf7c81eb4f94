//! The logs of a simulated call, with transfers of ether among them if asked for.

use alloy_primitives::{Address, B256, Log, LogData, U256, address, b256};
use revm::{
    Inspector,
    context_interface::{ContextTr, JournalTr},
    interpreter::{CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome},
};

/// Whose logs transfers of ether seem to be (ERC-7528).
const ETHER: Address = address!("eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
/// `Transfer(address,address,uint256)`.
const TRANSFER: B256 = b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// Collects logs in order. Frames that fail take theirs with them, but not the numbers that those had.
#[derive(Debug)]
pub(super) struct LogCollector {
    with_transfers: bool,
    /// Logs so far, each with its number in the block.
    logs: Vec<(u64, Log)>,
    /// Where the logs of each open frame begin.
    frames: Vec<usize>,
    next: u64,
}

impl LogCollector {
    /// One for the calls of a block.
    pub(super) const fn new(with_transfers: bool) -> Self {
        Self { with_transfers, logs: Vec::new(), frames: Vec::new(), next: 0 }
    }

    /// The logs of the call that has just ended; the next one starts with none.
    pub(super) fn take(&mut self) -> Vec<(u64, Log)> {
        self.frames.clear();
        std::mem::take(&mut self.logs)
    }

    fn push(&mut self, log: Log) {
        self.logs.push((self.next, log));
        self.next += 1;
    }

    fn transfer(&mut self, from: Address, to: Address, value: U256) {
        if self.with_transfers && !value.is_zero() {
            let topics = vec![TRANSFER, from.into_word(), to.into_word()];
            let data = B256::from(value).into();
            self.push(Log { address: ETHER, data: LogData::new_unchecked(topics, data) });
        }
    }

    fn open(&mut self) {
        self.frames.push(self.logs.len());
    }

    fn close(&mut self, succeeded: bool) {
        let start = self.frames.pop().unwrap_or_default();
        if !succeeded {
            self.logs.truncate(start);
        }
    }
}

impl<CTX: ContextTr> Inspector<CTX> for LogCollector {
    fn log(&mut self, _: &mut CTX, log: Log) {
        self.push(log);
    }

    fn call(&mut self, _: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.open();
        if let Some(value) = inputs.transfer_value() {
            let to = match inputs.scheme {
                CallScheme::CallCode => inputs.bytecode_address,
                _ => inputs.target_address,
            };
            self.transfer(inputs.caller, to, value);
        }
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.close(outcome.result.result.is_ok());
    }

    fn create(&mut self, context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.open();
        if self.with_transfers && !inputs.value().is_zero() {
            // An account that cannot be read fails the call itself a moment later.
            if let Ok(caller) = context.journal_mut().load_account(inputs.caller()) {
                let nonce = caller.data.info.nonce;
                let created = inputs.created_address(nonce);
                self.transfer(inputs.caller(), created, inputs.value());
            }
        }
        None
    }

    fn create_end(&mut self, _: &mut CTX, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.close(outcome.result.result.is_ok());
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.transfer(contract, target, value);
    }
}
