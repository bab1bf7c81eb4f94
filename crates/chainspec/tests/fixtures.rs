//! Genesis files of other projects give the genesis hash that their chains start from.

use std::{fs, path::PathBuf};

use alloy_consensus::Header;
use alloy_primitives::B256;
use alloy_rlp::Decodable;
use alloy_trie::root::state_root_unhashed;
use heddle_chainspec::{ChainSpec, EthExecutorSpec, GenesisAccount};

/// The folder of public test data, `None` where this machine has none.
#[expect(clippy::print_stderr, reason = "a skipped test says so aloud")]
fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("HEDDLE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        eprintln!("skipped: fixtures not found in {}", folder.display());
        return None;
    }
    Some(folder)
}

fn state_root(spec: &ChainSpec) -> B256 {
    let alloc = spec.genesis_allocation().unwrap().clone();
    state_root_unhashed(
        alloc
            .into_iter()
            .map(|(address, account)| (address, GenesisAccount::into_trie_account(account))),
    )
}

#[test]
fn the_conformance_chain_builds_on_our_genesis_hash() {
    let Some(folder) = fixtures() else { return };
    let folder = folder.join("rpc-compat");
    let json = fs::read_to_string(folder.join("genesis.json")).unwrap();
    let spec = ChainSpec::from_genesis_json(&json).unwrap();
    let genesis = spec.genesis_header(state_root(&spec));

    let chain = fs::read(folder.join("chain.rlp")).unwrap();
    let mut rest = &chain[..];
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let mut block = alloy_rlp::Header::decode_bytes(&mut rest, true).unwrap();
        headers.push(Header::decode(&mut block).unwrap());
    }
    assert_eq!(headers[0].parent_hash, genesis.hash_slow());
    assert_eq!(headers[0].number, 1);

    // The fees of every block follow from its parent, through all forks; so do its limits.
    let parents = std::iter::once(&genesis).chain(&headers);
    for (parent, header) in parents.zip(&headers) {
        let number = header.number;
        assert_eq!(header.parent_hash, parent.hash_slow(), "block {number}");
        assert_eq!(spec.next_base_fee(parent), header.base_fee_per_gas, "block {number}");
        assert_eq!(
            spec.next_excess_blob_gas(parent, header.timestamp),
            header.excess_blob_gas,
            "block {number}"
        );
        assert!(spec.gas_limit_bounds(parent).contains(&header.gas_limit), "block {number}");
        assert_eq!(spec.is_proof_of_stake(number), header.difficulty.is_zero(), "block {number}");
    }
    assert_eq!(headers.len(), 54);
    assert!(spec.deposit_contract_address().is_some_and(|address| address.is_zero()));
}
