//! What import refuses, and how the chain moves between branches.

use alloy_consensus::{Header, TxEip1559, TxLegacy};
use alloy_eips::eip4895::{Withdrawal, Withdrawals};
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, Signature, TxKind, U256};
use heddle_chain::{
    BlockAttributes, Chain, ChainEvent, GenesisBlock, ImportError, ImportStatus, Imported,
    OptionalField,
};
use heddle_chainspec::ChainSpec;
use heddle_evm::{Block, Transaction};
use heddle_parallel::ParallelExecutor;
use heddle_store::Store;
use std::sync::Arc;

fn open() -> Chain {
    let spec = ChainSpec::dev();
    let genesis = GenesisBlock::new(&spec).expect("it has an allocation");
    let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
    let executor = ParallelExecutor::new(2).expect("threads can be started");
    Chain::open(Arc::new(spec), &genesis, store, executor).expect("the store is empty")
}

/// A valid child of the head, which does not become the head.
fn child(chain: &Chain, seconds: u64, beneficiary: u8) -> Block {
    let head = chain.head();
    let attributes = BlockAttributes {
        timestamp: head.header.timestamp + seconds,
        beneficiary: Address::repeat_byte(beneficiary),
        prev_randao: B256::ZERO,
        gas_limit: head.header.gas_limit,
        withdrawals: vec![Withdrawal {
            address: Address::repeat_byte(beneficiary),
            amount: 1,
            ..Default::default()
        }],
        parent_beacon_block_root: B256::ZERO,
        extra_data: Bytes::new(),
        base_fee: None,
    };
    chain.produce(&attributes, Vec::new()).expect("it is possible").block.to_block()
}

/// As many blocks as `chain` takes on.
fn grow(chain: &Chain, blocks: usize, beneficiary: u8) -> Vec<Block> {
    let grown = |_| {
        let block = child(chain, 12, beneficiary);
        assert_eq!(import(chain, &block).status, ImportStatus::Head);
        block
    };
    (0..blocks).map(grown).collect()
}

fn import(chain: &Chain, block: &Block) -> Imported {
    chain.import(block.clone()).expect("the block is valid")
}

fn hash(block: &Block) -> B256 {
    block.header.hash_slow()
}

/// Changes a valid block and gives why it is refused; the chain must be untouched.
fn refused(change: impl FnOnce(&mut Block)) -> ImportError {
    let chain = open();
    grow(&chain, 1, 1);
    let mut block = child(&chain, 12, 1);
    change(&mut block);
    let mut events = chain.subscribe();
    let head = chain.head().hash();
    let error = chain.import(block.clone()).expect_err("the block is invalid");
    assert_eq!(chain.head().hash(), head, "{error}");
    assert_eq!(chain.store().head().map(|head| head.hash), Some(head), "{error}");
    assert!(chain.store().side_block(&hash(&block)).expect("readable").is_none(), "{error}");
    assert!(events.try_recv().is_err(), "{error}");
    error
}

fn header(change: impl FnOnce(&mut Header)) -> ImportError {
    let error = refused(|block| change(&mut block.header));
    assert!(error.is_invalid_block() || matches!(error, ImportError::UnknownParent { .. }));
    error
}

macro_rules! assert_refused {
    ($error:expr, $pattern:pat) => {
        let error = $error;
        assert!(matches!(error, $pattern), "{error:?}");
    };
}

#[test]
fn each_rule_of_the_header_is_checked_and_named() {
    use ImportError as E;
    assert_refused!(header(|it| it.parent_hash = B256::ZERO), E::UnknownParent { .. });
    assert_refused!(header(|it| it.number += 1), E::Number { parent: 1, actual: 3 });
    assert_refused!(header(|it| it.timestamp -= 12), E::Timestamp { .. });
    assert_refused!(
        header(|it| it.extra_data = vec![0; 33].into()),
        E::ExtraDataTooLong { max: 32, actual: 33 }
    );
    assert_refused!(header(|it| it.difficulty = U256::ONE), E::Difficulty { .. });
    assert_refused!(header(|it| it.nonce = B64::with_last_byte(1)), E::NonceAfterMerge(_));
    assert_refused!(header(|it| it.gas_limit += it.gas_limit / 1024), E::GasLimit { .. });
    assert_refused!(header(|it| it.gas_limit -= it.gas_limit / 1024), E::GasLimit { .. });
    assert_refused!(header(|it| it.gas_used = it.gas_limit + 1), E::GasUsedAboveLimit { .. });
    assert_refused!(header(|it| it.base_fee_per_gas = Some(1)), E::BaseFee { actual: 1, .. });
    assert_refused!(
        header(|it| it.base_fee_per_gas = None),
        E::FieldMissing(OptionalField::BaseFee)
    );
    assert_refused!(
        header(|it| it.withdrawals_root = None),
        E::FieldMissing(OptionalField::WithdrawalsRoot)
    );
    assert_refused!(
        header(|it| it.blob_gas_used = None),
        E::FieldMissing(OptionalField::BlobGasUsed)
    );
    assert_refused!(
        header(|it| it.parent_beacon_block_root = None),
        E::FieldMissing(OptionalField::ParentBeaconBlockRoot)
    );
    assert_refused!(
        header(|it| it.requests_hash = None),
        E::FieldMissing(OptionalField::RequestsHash)
    );
    assert_refused!(
        header(|it| it.block_access_list_hash = Some(B256::ZERO)),
        E::FieldTooEarly(OptionalField::BlockAccessListHash)
    );
    assert_refused!(header(|it| it.excess_blob_gas = Some(131_072)), E::ExcessBlobGas { .. });
    assert_refused!(header(|it| it.blob_gas_used = Some(1)), E::BlobGasNotWhole { .. });
    assert_refused!(header(|it| it.blob_gas_used = Some(131_072)), E::BlobGasUsed { .. });
    assert_refused!(
        header(|it| it.blob_gas_used = Some(131_072 * 1_000)),
        E::BlobGasAboveLimit { .. }
    );
}

#[test]
fn what_execution_gives_must_be_what_the_header_says() {
    use ImportError as E;
    assert_refused!(header(|it| it.state_root = B256::ZERO), E::StateRoot { .. });
    assert_refused!(header(|it| it.receipts_root = B256::ZERO), E::ReceiptsRoot { .. });
    assert_refused!(header(|it| it.gas_used = 21_000), E::GasUsed { actual: 0, .. });
    assert_refused!(header(|it| it.logs_bloom = Bloom::repeat_byte(1)), E::LogsBloom { .. });
    assert_refused!(header(|it| it.requests_hash = Some(B256::ZERO)), E::RequestsHash { .. });
    assert_refused!(
        header(|it| it.parent_beacon_block_root = Some(B256::repeat_byte(1))),
        E::StateRoot { .. }
    );
}

/// A transaction with the signature of nobody in particular.
fn with_transaction(block: &mut Block, tx: impl Into<Transaction>) {
    block.body.transactions = vec![tx.into()];
    block.header.transactions_root =
        alloy_consensus::proofs::calculate_transaction_root(&block.body.transactions);
}

fn signature(s: U256) -> Signature {
    Signature::new(U256::ONE, s, false)
}

#[test]
fn each_rule_of_the_body_is_checked_and_named() {
    use ImportError as E;
    let ommer = |block: &mut Block| block.body.ommers = vec![Header::default()];
    assert_refused!(refused(ommer), E::OmmersHash { .. });
    assert_refused!(refused(|it| it.body.withdrawals = None), E::FieldMissing(_));
    assert_refused!(
        refused(|it| it.body.withdrawals = Some(Withdrawals::default())),
        E::WithdrawalsRoot { .. }
    );
    assert_refused!(
        refused(|it| it.header.transactions_root = B256::ZERO),
        E::TransactionsRoot { .. }
    );
    let legacy = |chain_id, gas_limit, s| {
        let to = TxKind::Call(Address::ZERO);
        let tx = TxLegacy { chain_id, gas_limit, to, ..Default::default() };
        Transaction::new_unhashed(tx.into(), signature(s))
    };
    assert_refused!(
        refused(|it| with_transaction(it, legacy(Some(1), 21_000, U256::ONE))),
        E::TransactionChainId { expected: 31_337, actual: 1, .. }
    );
    assert_refused!(
        refused(|it| with_transaction(it, legacy(None, 1 << 24 | 1, U256::ONE))),
        E::TransactionGasLimit { max: 16_777_216, .. }
    );
    let high_s = U256::from_be_bytes(
        alloy_primitives::b256!(
            "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140"
        )
        .0,
    );
    assert_refused!(
        refused(|it| with_transaction(it, legacy(None, 21_000, high_s))),
        E::Signature { index: 0, high_s: true }
    );
    assert_refused!(
        refused(|it| with_transaction(it, legacy(None, 21_000, U256::ZERO))),
        E::Signature { index: 0, high_s: false }
    );
    // Signed by somebody, who has no ether.
    let poor = TxEip1559 {
        chain_id: 31_337,
        gas_limit: 21_000,
        max_fee_per_gas: u128::from(u64::MAX),
        to: TxKind::Call(Address::ZERO),
        ..Default::default()
    };
    let poor = Transaction::new_unhashed(poor.into(), signature(U256::ONE));
    assert_refused!(refused(|it| with_transaction(it, poor)), E::Execution(_));
}

#[test]
fn bytes_that_are_not_exactly_one_block_are_refused() {
    let chain = open();
    let mut bytes = alloy_rlp::encode(child(&chain, 12, 1));
    bytes.push(0);
    assert_refused!(
        chain.import_rlp(&bytes).expect_err("a byte too many"),
        ImportError::TrailingBytes(1)
    );
    for length in 0..bytes.len() - 1 {
        assert_refused!(
            chain.import_rlp(&bytes[..length]).expect_err("cut off"),
            ImportError::Rlp(_)
        );
    }
    assert_eq!(chain.head().number(), 0);
}

#[test]
fn a_genesis_block_of_another_chain_is_refused() {
    let error = open().import(Block::default()).expect_err("another chain");
    assert_refused!(error, ImportError::WrongGenesis { .. });
}

#[test]
fn the_newest_block_takes_over_with_one_event() {
    let (ours, theirs) = (open(), open());
    let a = grow(&ours, 3, 1);
    let b = grow(&theirs, 2, 2);
    let mut events = ours.subscribe();

    assert_eq!(import(&ours, &b[0]).status, ImportStatus::Head);
    assert_eq!(ours.head().hash(), hash(&b[0]));
    let event = events.try_recv().expect("the head changed");
    let removed = |event: &ChainEvent| -> Vec<B256> {
        event.removed.iter().map(|block| block.hash()).collect()
    };
    let added =
        |event: &ChainEvent| -> Vec<B256> { event.added.iter().map(|id| id.hash).collect() };
    assert_eq!(removed(&event), a.iter().map(hash).collect::<Vec<_>>());
    assert_eq!(added(&event), [hash(&b[0])]);
    assert!(events.try_recv().is_err(), "one event for the whole change");

    assert_eq!(import(&ours, &b[1]).status, ImportStatus::Head);
    events.try_recv().expect("the head changed");
    assert_eq!(import(&ours, &a[1]).status, ImportStatus::AlreadyKnown);

    ours.set_head(hash(&a[2])).expect("it is kept beside the chain");
    let event = events.try_recv().expect("the head changed");
    assert_eq!(removed(&event), b.iter().map(hash).collect::<Vec<_>>());
    assert_eq!(added(&event), a.iter().map(hash).collect::<Vec<_>>());
    ours.store().verify_state().expect("the root follows from the flat state");

    let balance = ours.latest_state().account(Address::repeat_byte(2)).expect("readable");
    assert!(balance.is_none(), "nothing of the other branch is left");
}

#[test]
fn a_block_that_branches_off_deep_below_the_head_is_executed_on_its_own_parent() {
    let (ours, theirs) = (open(), open());
    grow(&ours, 20, 1);
    let b = grow(&theirs, 20, 2);
    for block in &b {
        assert_eq!(import(&ours, block).status, ImportStatus::Head);
    }
    assert_eq!(ours.head().hash(), theirs.head().hash());
    assert_eq!(ours.head().header.state_root, theirs.head().header.state_root);
    ours.store().verify_state().expect("the root follows from the flat state");
}

#[test]
fn an_invalid_block_of_another_branch_leaves_the_head_where_it_is() {
    let (ours, theirs) = (open(), open());
    let a = grow(&ours, 3, 1);
    let mut bad = grow(&theirs, 1, 2).remove(0);
    bad.header.state_root = B256::ZERO;
    let error = ours.import(bad).expect_err("the state root is wrong");
    assert_refused!(error, ImportError::StateRoot { .. });
    assert_eq!(ours.head().hash(), hash(&a[2]));
    ours.store().verify_state().expect("the root follows from the flat state");
}

#[test]
fn a_branch_with_an_invalid_block_is_not_gone_over_to() {
    let (ours, theirs) = (open(), open());
    let a = grow(&ours, 2, 1);
    let mut b = grow(&theirs, 2, 2);
    // As if it had been kept without being executed.
    b[0].header.state_root = B256::ZERO;
    b[1].header.parent_hash = hash(&b[0]);
    for block in &b {
        let stored = heddle_store::StoredBlock {
            header: block.header.clone(),
            hash: hash(block),
            transactions: Vec::new(),
            senders: Vec::new(),
            ommers: Vec::new(),
            withdrawals: block.body.withdrawals.clone().map(Withdrawals::into_inner),
            total_difficulty: Some(U256::ZERO),
        };
        ours.store().put_side_block(&stored).expect("writable");
    }
    let error = ours.set_head(hash(&b[1])).expect_err("its parent is invalid");
    assert_refused!(error, ImportError::InvalidAncestor { number: 1, .. });
    assert_eq!(ours.head().hash(), hash(&a[1]));
    let error = ours.set_head(B256::ZERO).expect_err("there is no such block");
    assert_refused!(error, ImportError::UnknownBlock(_));
}
