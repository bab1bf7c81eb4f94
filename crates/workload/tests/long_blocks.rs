//! Blocks long enough for a second worker to make receipts while the first one runs in order.

use alloy_primitives::{Address, B256, U256};
use heddle_evm::{StateError, execute_block};
use heddle_parallel::{Cancellation, ParallelExecutor};
use heddle_workload::{MemoryState, Workload, WorkloadKind, WorkloadOptions};
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};

/// Long, and not a whole number of the portions in which transactions are handed over.
const TRANSACTIONS: usize = 3_001;

fn long_block(kind: WorkloadKind) -> Workload {
    let transactions = Some(TRANSACTIONS);
    Workload::new(kind, &WorkloadOptions { transactions, ..WorkloadOptions::default() })
        .expect("needs no packages")
}

#[test]
fn long_blocks_in_order_give_what_the_reference_gives() {
    let executors = [2, 4].map(|workers| ParallelExecutor::new(workers).expect("threads start"));
    for kind in [
        WorkloadKind::Transfers,
        WorkloadKind::ChainErc20,
        WorkloadKind::NftMint,
        WorkloadKind::Lending,
    ] {
        let workload = long_block(kind);
        let expected = execute_block(&workload.spec, &workload.state, &workload.input());
        let expected = expected.expect("the block is valid");
        for executor in &executors {
            for _ in 0..3 {
                let executed = executor.execute(&workload.spec, &workload.state, &workload.input());
                assert_eq!(executed.expect("the block is valid").output, expected, "{kind}");
            }
        }
    }
}

type Happens<'s> = &'s (dyn Fn() -> Result<(), StateError> + Sync);

/// A state in which something happens when an account is read.
struct Trap<'s> {
    state: &'s MemoryState,
    address: Address,
    happens: Happens<'s>,
}

impl DatabaseRef for Trap<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        if address == self.address {
            (self.happens)()?;
        }
        self.state.basic_ref(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.state.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.state.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash_ref(number)
    }
}

#[test]
fn a_long_block_that_cannot_end_is_an_error_and_leaves_the_workers_usable() {
    let workload = long_block(WorkloadKind::Transfers);
    let executor = ParallelExecutor::new(2).expect("threads start");
    let cancellation = Cancellation::default();
    let cancel = || {
        cancellation.cancel();
        Ok(())
    };
    let fail = || Err(StateError::new("the disk is gone".to_owned()));
    let endings: [(Happens<'_>, &str); 3] = [
        (&fail, "the disk is gone"),
        (&|| panic!("the reader is broken"), "the reader is broken"),
        (&cancel, "execution was cancelled"),
    ];
    for (happens, message) in endings {
        let address = workload.transactions[2_000].signer();
        let trap = Trap { state: &workload.state, address, happens };
        let input = workload.input();
        let error = executor
            .execute_cancellable(&workload.spec, &trap, &input, &cancellation)
            .expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
    }
    let again = executor.execute(&workload.spec, &workload.state, &workload.input());
    assert_eq!(again.expect("the block is valid").output.receipts.len(), TRANSACTIONS);
}
