//! Random programs, translated and as they are: the same gas, storage, logs and failures.

use crate::{
    blocks::{Gauntlet, TestBlock, TestSpec, sign},
    from_env,
    state::TestState,
};
use alloy_consensus::TxLegacy;
use alloy_primitives::{Address, U256};
use heddle_evm::{InvalidTransactions, RecoveredTransaction, execute_block};
use heddle_parallel::ParallelExecutor;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use revm::bytecode::opcode::*;

const PROGRAMS: usize = 4;
const TRANSACTIONS: usize = 24;
const BLOCKS_IN_CI: usize = 1_500;

fn program(index: usize) -> Address {
    Address::left_padding_from(&(0xb7_0000 + index).to_be_bytes())
}

fn sender(index: usize) -> Address {
    Address::left_padding_from(&(0xb8_0000 + index).to_be_bytes())
}

/// Instructions that take and give so many words and have no other end.
const ARITHMETIC: [(u8, usize); 25] = [
    (ADD, 2),
    (MUL, 2),
    (SUB, 2),
    (DIV, 2),
    (SDIV, 2),
    (MOD, 2),
    (SMOD, 2),
    (ADDMOD, 3),
    (MULMOD, 3),
    (EXP, 2),
    (SIGNEXTEND, 2),
    (LT, 2),
    (GT, 2),
    (SLT, 2),
    (SGT, 2),
    (EQ, 2),
    (ISZERO, 1),
    (AND, 2),
    (OR, 2),
    (XOR, 2),
    (NOT, 1),
    (BYTE, 2),
    (SHL, 2),
    (SHR, 2),
    (SAR, 2),
];

/// A program that keeps to its stack most of the time.
struct Program<'r> {
    code: Vec<u8>,
    height: usize,
    /// Where jumps may go, with the height expected there, and where such a place is to be put.
    labels: Vec<(usize, usize)>,
    open: Vec<(usize, usize)>,
    rng: &'r mut StdRng,
}

impl Program<'_> {
    fn write(mut self) -> Vec<u8> {
        // Long blocks of what only computes, or some of everything.
        let (kinds, count) = if self.rng.random_bool(0.3) { (14, 300) } else { (25, 60) };
        for _ in 0..self.rng.random_range(1..count) {
            self.something(kinds);
        }
        self.close_labels();
        self.keep_everything();
        self.code
    }

    fn op(&mut self, opcode: u8) {
        self.code.push(opcode);
    }

    fn push(&mut self, value: U256) {
        let bytes = value.to_be_bytes_trimmed_vec();
        // Sometimes with zeros in front, as compilers leave them.
        let zeros = if self.rng.random_bool(0.1) { 32 - bytes.len() } else { 0 };
        let bytes = [vec![0; zeros.max(usize::from(bytes.is_empty()))], bytes].concat();
        self.op(PUSH1 + bytes.len() as u8 - 1);
        self.code.extend(bytes);
        self.height += 1;
    }

    fn constant(&mut self) -> U256 {
        let rng = &mut *self.rng;
        match rng.random_range(0..6) {
            0 => U256::from(rng.random_range(0..4u64)),
            1 => U256::from(*[31u64, 32, 255, 256, 1 << 32, u64::MAX].choose(rng).expect("some")),
            2 => U256::MAX - U256::from(rng.random_range(0..3u64)),
            3 => U256::ONE << rng.random_range(0..256usize),
            4 => (U256::ONE << rng.random_range(1..256usize)) - U256::ONE,
            _ => U256::from_be_bytes(rng.random::<[u8; 32]>()),
        }
    }

    /// Words that there should be.
    fn need(&mut self, words: usize) {
        while self.height < words && self.rng.random_bool(0.98) {
            let value = self.constant();
            self.push(value);
        }
    }

    fn does(&mut self, opcode: u8, takes: usize, gives: usize) {
        self.need(takes);
        self.op(opcode);
        self.height = self.height.saturating_sub(takes) + gives;
    }

    fn something(&mut self, kinds: usize) {
        match self.rng.random_range(0..kinds) {
            0..=6 => {
                let (opcode, takes) = *ARITHMETIC.choose(self.rng).expect("some");
                self.does(opcode, takes, 1);
            }
            7 | 8 => {
                let value = self.constant();
                self.push(value);
            }
            9 | 10 => {
                let depth = self.rng.random_range(1..=16);
                self.need(depth);
                self.op(DUP1 + depth as u8 - 1);
                self.height += 1;
            }
            11 | 12 => {
                let depth = self.rng.random_range(1..=16);
                self.need(depth + 1);
                self.op(SWAP1 + depth as u8 - 1);
            }
            13 => self.does(POP, 1, 0),
            14 | 15 => {
                let (opcode, takes, gives) =
                    *[(MLOAD, 1, 1), (MSTORE, 2, 0), (MSTORE8, 2, 0), (CALLDATALOAD, 1, 1)]
                        .choose(self.rng)
                        .expect("some");
                self.need(takes);
                if self.rng.random_bool(0.97) {
                    let offset = U256::from(self.rng.random_range(0..200u64));
                    self.push(offset);
                } else {
                    let offset = self.constant();
                    self.push(offset);
                }
                self.does(opcode, takes, gives);
            }
            16 => {
                let opcodes = [
                    GAS,
                    GAS,
                    MSIZE,
                    PC,
                    CALLER,
                    CALLVALUE,
                    ADDRESS,
                    CALLDATASIZE,
                    RETURNDATASIZE,
                    TIMESTAMP,
                    PUSH0,
                ];
                let opcode = *opcodes.choose(self.rng).expect("some");
                self.does(opcode, 0, 1);
            }
            17 => {
                self.push(U256::from(64));
                self.push(U256::from(32));
                self.does(KECCAK256, 2, 1);
            }
            18 => {
                self.need(1);
                self.push(U256::from(3));
                self.does(AND, 2, 1);
                if self.rng.random_bool(0.5) {
                    self.does(SLOAD, 1, 1);
                } else {
                    self.does(SSTORE, 2, 0);
                }
            }
            19 => self.call(),
            20 | 21 => self.jump_forward(),
            22 => self.jump_back(),
            23 => self.close_labels(),
            _ => {
                if self.rng.random_bool(0.1) {
                    let garbage = self.rng.random();
                    self.op(garbage);
                }
            }
        }
    }

    /// Calls another program, with input of any length, or nobody, or creates an account.
    fn call(&mut self) {
        if self.rng.random_bool(0.1) {
            for value in [0, 32, 0, 0] {
                self.push(U256::from(value));
            }
            return self.does(CREATE2, 4, 1);
        }
        let (opcode, words) =
            *[(CALL, 7), (CALL, 7), (CALLCODE, 7), (DELEGATECALL, 6), (STATICCALL, 6)]
                .choose(self.rng)
                .expect("some");
        let input = *[0, 0, 1, 31, 32, 33, 100].choose(self.rng).expect("some");
        for value in [32, 0, input, self.rng.random_range(0..64), 0].into_iter().take(words - 2) {
            self.push(U256::from(value));
        }
        let callee = program(self.rng.random_range(0..=PROGRAMS));
        self.push(U256::from_be_slice(callee.as_slice()));
        if self.rng.random_bool(0.5) {
            self.op(GAS);
            self.height += 1;
        } else {
            let gas = self.rng.random_range(0..30_000u64);
            self.push(U256::from(gas));
        }
        self.does(opcode, words, 1);
    }

    /// Jumps to a place that is still to come, known beforehand or not, on a condition or not.
    fn jump_forward(&mut self) {
        let condition = self.rng.random_bool(0.7);
        if condition {
            self.need(1);
        }
        let place = self.code.len() + 1;
        self.code.extend([PUSH2, 0, 0]);
        self.height += 1;
        if self.rng.random_bool(0.3) {
            // A value that the translator does not know before the block runs.
            self.does(CALLVALUE, 0, 1);
            self.does(ADD, 2, 1);
        }
        let opcode = if condition { JUMPI } else { JUMP };
        self.does(opcode, if condition { 2 } else { 1 }, 0);
        self.open.push((place, self.height));
    }

    fn jump_back(&mut self) {
        let Some((label, height)) = self.labels.choose(self.rng).copied() else { return };
        while self.height > height + 1 {
            self.does(POP, 1, 0);
        }
        self.need(height);
        // While there is gas enough.
        let gas = self.rng.random_range(1_000..150_000u64);
        self.push(U256::from(gas));
        self.does(GAS, 0, 1);
        self.does(GT, 2, 1);
        self.push(U256::from(label));
        self.does(JUMPI, 2, 0);
    }

    fn close_labels(&mut self) {
        let here = self.code.len();
        for (place, height) in std::mem::take(&mut self.open) {
            let target = if self.rng.random_bool(0.97) { here } else { here / 2 };
            self.code[place..place + 2].copy_from_slice(&(target as u16).to_be_bytes());
            self.height = self.height.min(height);
        }
        self.op(JUMPDEST);
        self.labels.push((here, self.height));
    }

    /// Writes what is on the stack and in memory where the test sees it.
    fn keep_everything(&mut self) {
        for slot in 0..self.height.min(6) as u64 {
            self.push(U256::from(16 + slot));
            self.does(SSTORE, 2, 0);
        }
        self.push(U256::from(256));
        self.push(U256::ZERO);
        let end = *[LOG0, LOG0, RETURN, REVERT].choose(self.rng).expect("some");
        self.does(end, 2, 0);
    }
}

fn block(seed: u64) -> (TestSpec, TestBlock, TestState) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let gauntlet = Gauntlet::load();
    let spec = TestSpec::random(rng);
    let mut state = gauntlet.state(spec, rng);
    let mut block = gauntlet.block(spec, &state, 1, rng);
    block.invalid = InvalidTransactions::Reject;
    block.env.block_env.beneficiary = Address::repeat_byte(0xbb);
    block.env.block_env.gas_limit = 1 << 40;
    for index in 0..PROGRAMS {
        let program_code = Program {
            code: Vec::new(),
            height: 0,
            labels: Vec::new(),
            open: Vec::new(),
            rng: &mut *rng,
        };
        state.insert(program(index), 1, U256::ZERO, &program_code.write().into());
    }
    let transaction = |index: usize| {
        let mut input = vec![0; rng.random_range(0..100)];
        rng.fill(&mut input[..]);
        let tx = TxLegacy {
            chain_id: None,
            gas_price: 2_000,
            gas_limit: 30_000 + rng.random_range(0..200_000),
            to: program(rng.random_range(0..PROGRAMS)).into(),
            value: U256::from(u64::from(rng.random_bool(0.2))),
            input: input.into(),
            ..TxLegacy::default()
        };
        RecoveredTransaction::new_unchecked(sign(tx).into(), sender(index))
    };
    block.transactions = (0..TRANSACTIONS).map(transaction).collect();
    for index in 0..TRANSACTIONS {
        state.insert(sender(index), 0, U256::from(10).pow(U256::from(18)), &Vec::new().into());
    }
    (spec, block, state)
}

#[test]
fn translated_programs_do_what_revm_does() {
    let started = |workers| ParallelExecutor::new(workers).expect("threads start");
    let executors = [
        started(1).with_all_code_translated(),
        started(2).with_all_workers_always().with_all_code_translated(),
        started(1),
    ];
    let first = from_env("HEDDLE_GAUNTLET_SEED", 0) as u64;
    let blocks = from_env("HEDDLE_GAUNTLET_PROGRAMS", BLOCKS_IN_CI) as u64;
    let (mut succeeded, mut failed) = (0, 0);
    for seed in first..first + blocks {
        let (spec, block, state) = block(seed);
        let input = block.input();
        let expected = execute_block(&spec, &state, &input).expect("the block is valid");
        for (which, executor) in executors.iter().enumerate() {
            let context = format!("HEDDLE_GAUNTLET_SEED={seed}, {spec:?}, executor {which}");
            let executed = executor.execute(&spec, &state, &input).expect("the block is valid");
            assert_eq!(executed.output.receipts, expected.receipts, "receipts, {context}");
            assert_eq!(executed.output.changes, expected.changes, "changes, {context}");
            assert_eq!(executed.output, expected, "{context}");
        }
        let good = expected.receipts.iter().filter(|receipt| receipt.status()).count();
        succeeded += good;
        failed += expected.receipts.len() - good;
    }
    println!("{succeeded} succeeded, {failed} failed");
    // What this proves depends on what the programs are like.
    let all = succeeded + failed;
    assert!(succeeded > all / 5 && failed > all / 10, "{succeeded} succeeded, {failed} failed");
}
