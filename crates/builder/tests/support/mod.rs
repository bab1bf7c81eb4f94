//! What the tests of whole miners share.

use alloy_consensus::{
    EthereumTxEnvelope, SignableTransaction, Signed, TxEip1559, transaction::Recovered,
};
use alloy_primitives::{Address, Bytes};
use alloy_signer::SignerSync;
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner};
use heddle_builder::MinerConfig;
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_pool::PoolLimits;
use heddle_store::Store;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Of one of the ten accounts that have ether.
pub(crate) fn signer(index: u32) -> PrivateKeySigner {
    let phrase = "test test test test test test test test test test test junk";
    let builder = MnemonicBuilder::from_phrase(phrase).index(index).expect("is a path");
    builder.build().expect("is a mnemonic")
}

pub(crate) fn chain_of(spec: ChainSpec) -> Arc<Chain> {
    let spec = Arc::new(spec);
    let genesis = GenesisBlock::new(&spec).expect("the dev chain has an allocation");
    let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
    let executor = ParallelExecutor::new(2).expect("threads start");
    Arc::new(Chain::open(spec, &genesis, store, executor).expect("the chain opens"))
}

/// Blocks are made when they are asked for.
pub(crate) fn config() -> MinerConfig {
    MinerConfig {
        automine: false,
        interval: None,
        coinbase: Address::ZERO,
        gas_limit: None,
        extra_data: Bytes::new(),
        pool_limits: PoolLimits::default(),
        funded: Vec::new(),
        simulate: false,
    }
}

pub(crate) fn template() -> TxEip1559 {
    TxEip1559 { chain_id: 31_337, max_fee_per_gas: 10_000_000_000, ..TxEip1559::default() }
}

pub(crate) fn sign<T>(from: &PrivateKeySigner, tx: TxEip1559) -> Recovered<EthereumTxEnvelope<T>>
where
    EthereumTxEnvelope<T>: From<Signed<TxEip1559>>,
{
    let signature = from.sign_hash_sync(&tx.signature_hash()).expect("signs");
    Recovered::new_unchecked(EthereumTxEnvelope::from(tx.into_signed(signature)), from.address())
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
