//! What is active when, on mainnet and on a chain that goes through every fork.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::{B256, U256, address};
use heddle_chainspec::{
    ChainSpec, ChainSpecError, EthExecutorSpec, EthereumHardfork, EthereumHardforks, SpecId,
};

/// A chain with a fork every few blocks, proof of work until block 36, like those of the conformance tests.
fn every_fork() -> ChainSpec {
    ChainSpec::from_genesis_json(
        r#"{
            "config": {
                "chainId": 99, "homesteadBlock": 0, "eip150Block": 3, "eip155Block": 6, "eip158Block": 6,
                "byzantiumBlock": 9, "constantinopleBlock": 12, "petersburgBlock": 15, "istanbulBlock": 18,
                "muirGlacierBlock": 21, "berlinBlock": 24, "londonBlock": 27, "arrowGlacierBlock": 30,
                "grayGlacierBlock": 33, "mergeNetsplitBlock": 36, "shanghaiTime": 390, "cancunTime": 420,
                "pragueTime": 450, "osakaTime": 480, "bpo1Time": 510, "terminalTotalDifficulty": 4732352,
                "blobSchedule": {"bpo1": {"target": 10, "max": 15, "baseFeeUpdateFraction": 8346193}},
                "ethash": {}, "londnBlock": 5
            },
            "gasLimit": "0x5f5e100", "difficulty": "0x20000", "alloc": {}
        }"#,
    )
    .unwrap()
}

#[test]
fn the_latest_active_fork_is_found_by_number_and_time() {
    use EthereumHardfork as Fork;
    let spec = every_fork();
    for (number, timestamp, fork, spec_id) in [
        (0, 0, Fork::Homestead, SpecId::HOMESTEAD),
        (3, 30, Fork::Tangerine, SpecId::TANGERINE),
        (6, 60, Fork::SpuriousDragon, SpecId::SPURIOUS_DRAGON),
        (9, 90, Fork::Byzantium, SpecId::BYZANTIUM),
        (12, 120, Fork::Constantinople, SpecId::PETERSBURG),
        (15, 150, Fork::Petersburg, SpecId::PETERSBURG),
        (18, 180, Fork::Istanbul, SpecId::ISTANBUL),
        (21, 210, Fork::MuirGlacier, SpecId::ISTANBUL),
        (24, 240, Fork::Berlin, SpecId::BERLIN),
        (27, 270, Fork::London, SpecId::LONDON),
        (30, 300, Fork::ArrowGlacier, SpecId::LONDON),
        (33, 330, Fork::GrayGlacier, SpecId::LONDON),
        (35, 350, Fork::GrayGlacier, SpecId::LONDON),
        (36, 360, Fork::Paris, SpecId::MERGE),
        (39, 390, Fork::Shanghai, SpecId::SHANGHAI),
        (42, 420, Fork::Cancun, SpecId::CANCUN),
        (45, 450, Fork::Prague, SpecId::PRAGUE),
        (48, 480, Fork::Osaka, SpecId::OSAKA),
        (51, 510, Fork::Bpo1, SpecId::OSAKA),
    ] {
        assert_eq!(spec.fork_at(number, timestamp), fork);
        assert_eq!(spec.spec_id_at(number, timestamp), spec_id);
        assert_eq!(spec.is_proof_of_stake(number), number >= 36);
        let header = Header { number, timestamp, ..Default::default() };
        assert_eq!(spec.evm_env(&header).cfg_env.spec, spec_id);
    }
    assert_eq!(spec.merge_block(), Some(36));
    assert!(!spec.is_terminal_total_difficulty_reached(U256::from(4_732_351)));
    assert!(spec.is_terminal_total_difficulty_reached(U256::from(4_732_352)));
    assert_eq!(spec.unrecognized_config_fields().collect::<Vec<_>>(), ["londnBlock"]);
    assert_eq!(spec.deposit_contract_address(), None);
    assert_eq!(spec.name(), None);
}

#[test]
fn petersburg_left_out_comes_with_constantinople() {
    let spec = ChainSpec::from_genesis_json(
        r#"{"config": {"chainId": 3, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 4}, "gasLimit": 5000, "alloc": {}}"#,
    )
    .unwrap();
    assert!(!spec.is_petersburg_active_at_block(3));
    assert!(spec.is_petersburg_active_at_block(4));
    assert_eq!(spec.merge_block(), None);
    assert!(!spec.is_proof_of_stake(u64::MAX));
    assert!(spec.with_merge_block(9).is_proof_of_stake(9));
}

#[test]
fn a_dao_fork_that_the_chain_refused_changes_nothing() {
    let chain = |support: bool| {
        ChainSpec::from_genesis_json(&format!(
            r#"{{"config": {{"chainId": 61, "homesteadBlock": 0, "daoForkBlock": 9, "daoForkSupport": {support}}},
                "gasLimit": 5000, "alloc": {{}}}}"#,
        ))
        .unwrap()
    };
    assert_eq!(chain(true).fork_at(9, 0), EthereumHardfork::Dao);
    assert_eq!(chain(true).dao_fork_block(), Some(9));
    assert_eq!(chain(false).fork_at(9, 0), EthereumHardfork::Homestead);
    assert_eq!(chain(false).dao_fork_block(), None);
    // Its block is part of the fork id all the same.
    assert_eq!(chain(false).fork_id(B256::ZERO, 0, 0).next, 9);
}

#[test]
fn mainnet_knows_its_rules_but_not_its_genesis_accounts() {
    let spec = ChainSpec::mainnet();
    assert_eq!(spec.name(), Some("mainnet"));
    assert_eq!(spec.merge_block(), Some(15_537_394));
    assert_eq!(spec.dao_fork_block(), Some(1_920_000));
    assert_eq!(
        spec.deposit_contract_address(),
        Some(address!("0x00000000219ab540356cBB839Cbe05303d7705Fa")),
    );
    assert_eq!(spec.fork_at(19_426_586, 1_710_338_123), EthereumHardfork::Shanghai);
    assert_eq!(spec.fork_at(19_426_587, 1_710_338_135), EthereumHardfork::Cancun);
    assert_eq!(spec.fork_at(30_000_000, 1_800_000_000), EthereumHardfork::Bpo2);
    let blobs = |timestamp| {
        let params = spec.blob_params_at(timestamp).unwrap();
        (params.target_blob_count, params.max_blob_count, params.max_blobs_per_tx)
    };
    assert_eq!(blobs(1_710_338_135), (3, 6, 6));
    assert_eq!(blobs(1_746_612_311), (6, 9, 9));
    assert_eq!(blobs(1_764_798_551), (6, 9, 6));
    assert_eq!(blobs(1_765_290_071), (10, 15, 6));
    assert_eq!(blobs(1_767_747_671), (14, 21, 6));
    assert_eq!(
        spec.genesis_allocation(),
        Err(ChainSpecError::GenesisStateUnavailable { chain: "mainnet".to_owned() }),
    );
}

#[test]
fn the_evm_sees_the_limits_and_fees_of_the_block() {
    let spec = Arc::new(every_fork());
    let header = |number, timestamp| Header {
        number,
        timestamp,
        difficulty: U256::from(131_072),
        mix_hash: B256::repeat_byte(5),
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(7),
        excess_blob_gas: Some(20_000_000),
        ..Default::default()
    };

    let proof_of_work = spec.evm_env(&header(35, 350));
    assert_eq!(proof_of_work.block_env.difficulty, U256::from(131_072));
    assert_eq!(proof_of_work.block_env.prevrandao, None);
    assert_eq!(proof_of_work.block_env.blob_excess_gas_and_price, None);
    assert_eq!(proof_of_work.cfg_env.chain_id, 99);

    let prague = spec.evm_env(&header(45, 450));
    assert_eq!(prague.block_env.prevrandao, Some(B256::repeat_byte(5)));
    assert_eq!(prague.block_env.basefee, 7);
    assert_eq!(prague.cfg_env.tx_gas_limit_cap, None);
    assert_eq!(prague.cfg_env.max_blobs_per_tx, Some(9));

    let osaka_header = header(51, 510);
    let osaka = spec.evm_env(&osaka_header);
    assert_eq!(osaka.cfg_env.tx_gas_limit_cap, Some(16_777_216));
    assert_eq!(osaka.cfg_env.max_blobs_per_tx, Some(6));
    let price = osaka.block_env.blob_excess_gas_and_price.map(|blob| blob.blob_gasprice);
    assert_eq!(price, spec.blob_base_fee(&osaka_header));
    // floor(e^(20,000,000 / 8,346,193)) = 10
    assert_eq!(price, Some(10));
}
