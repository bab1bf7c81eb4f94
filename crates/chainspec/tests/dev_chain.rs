//! The chain in `genesis/dev.json` is what its documentation says.

use alloy_eips::{eip2935, eip4788, eip6110, eip7002, eip7251};
use alloy_evm::{
    Evm, EvmFactory,
    eth::EthEvmFactory,
    revm::{
        database::{CacheDB, EmptyDB},
        state::{AccountInfo, Bytecode},
    },
};
use alloy_primitives::{Address, B256, Bytes, U256, address, b256, bytes, keccak256};
use alloy_signer_local::{MnemonicBuilder, coins_bip39::English};
use heddle_chainspec::{
    BlobParams, ChainSpec, EthExecutorSpec, EthereumHardfork, GenesisAccount, SpecId,
};

const MNEMONIC: &str = "test test test test test test test test test test test junk";
const DEPLOYMENT_PROXY: Address = address!("0x4e59b44847b379578588920cA78FbF26c0B4956C");
const MULTICALL3: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");

fn account(address: Address) -> GenesisAccount {
    ChainSpec::dev().genesis_allocation().unwrap()[&address].clone()
}

#[test]
fn the_ten_accounts_of_the_test_mnemonic_have_10000_ether() {
    let ten_thousand_ether = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    for index in 0..10 {
        let signer =
            MnemonicBuilder::<English>::default().phrase(MNEMONIC).index(index).unwrap().build();
        let account = account(signer.unwrap().address());
        assert_eq!(account.balance, ten_thousand_ether);
        assert_eq!((account.nonce, account.code), (None, None));
    }
    let first = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    assert_eq!(account(first).balance, ten_thousand_ether);
    // Nothing else has anything.
    let spec = ChainSpec::dev();
    let alloc = spec.genesis_allocation().unwrap();
    assert_eq!(alloc.len(), 17);
    let total: U256 = alloc.values().map(|account| account.balance).sum();
    assert_eq!(total, ten_thousand_ether * U256::from(10));
}

#[test]
fn every_fork_that_mainnet_has_is_active_at_genesis() {
    let spec = ChainSpec::dev();
    assert_eq!(spec.chain_id(), 31337);
    assert_eq!(spec.fork_at(0, 0), EthereumHardfork::Bpo2);
    assert_eq!(spec.spec_id_at(0, 0), SpecId::OSAKA);
    assert_eq!(spec.merge_block(), Some(0));
    assert_eq!(spec.blob_params_at(0), Some(BlobParams::bpo2()));
    assert_eq!(spec.deposit_contract_address(), Some(eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS));

    let header = spec.genesis_header(B256::ZERO);
    assert_eq!((header.number, header.timestamp), (0, 0));
    assert_eq!(header.gas_limit, 1_000_000_000);
    assert_eq!(header.base_fee_per_gas, Some(1_000_000_000));
    assert_eq!(header.excess_blob_gas, Some(0));
    assert!(header.requests_hash.is_some());
    let head_time = 1_800_000_000;
    assert_eq!(spec.next_excess_blob_gas(&header, head_time), Some(0));
    assert_eq!(spec.next_base_fee(&header), Some(875_000_000));
}

#[test]
fn the_system_contracts_have_their_mainnet_code() {
    for (address, code) in [
        (eip4788::BEACON_ROOTS_ADDRESS, eip4788::BEACON_ROOTS_CODE.clone()),
        (eip2935::HISTORY_STORAGE_ADDRESS, eip2935::HISTORY_STORAGE_CODE.clone()),
        (
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone(),
        ),
        (
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            // The constant has two zero bytes at its end that the deployed contract has not.
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.slice(..414),
        ),
    ] {
        let account = account(address);
        assert_eq!(account.code, Some(code), "{address}");
        assert_eq!((account.nonce, account.balance), (Some(1), U256::ZERO));
    }
    for (address, code_hash) in [
        (
            eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS,
            b256!("0x6c029a231254fadb724d63be769f75eedd66362df034a3e663252b49d062a666"),
        ),
        (MULTICALL3, b256!("0xd5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891")),
        (
            DEPLOYMENT_PROXY,
            b256!("0x2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989"),
        ),
    ] {
        let account = account(address);
        assert_eq!(account.code_hash(), Some(code_hash), "{address}");
        assert_eq!((account.nonce, account.balance), (Some(1), U256::ZERO));
    }
}

/// What a contract of the dev chain answers in block 1.
fn call(contract: Address, input: Bytes) -> Bytes {
    let spec = ChainSpec::dev();
    let mut state = CacheDB::new(EmptyDB::default());
    for (address, account) in spec.genesis_allocation().unwrap() {
        let code = Bytecode::new_raw(account.code.clone().unwrap_or_default());
        let info = AccountInfo {
            balance: account.balance,
            nonce: account.nonce.unwrap_or_default(),
            code_hash: code.hash_slow(),
            code: Some(code),
            ..Default::default()
        };
        state.insert_account_info(*address, info);
        for (slot, value) in account.storage_slots() {
            state.insert_account_storage(*address, slot.into(), value).unwrap();
        }
    }
    let mut header = spec.genesis_header(B256::ZERO);
    header.number = 1;
    header.timestamp = 1_800_000_000;
    let mut evm = EthEvmFactory::default().create_evm(state, spec.evm_env(&header));
    let result = evm.transact_system_call(Address::ZERO, contract, input).unwrap().result;
    assert!(result.is_success(), "{result:?}");
    result.into_output().unwrap_or_default()
}

#[test]
fn the_deposit_contract_answers_with_the_root_of_an_empty_tree() {
    let selector = &keccak256("get_deposit_root()")[..4];
    let root = call(eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS, selector.to_vec().into());
    // A well-known constant of the beacon chain: the root before the first deposit.
    assert_eq!(root, bytes!("0xd70a234731285c6804c2a4f56711ddb8c82c99740f207854891028af34e27e5e"));
}

#[test]
fn multicall3_and_the_deployment_proxy_work() {
    let selector = &keccak256("getChainId()")[..4];
    let chain_id = call(MULTICALL3, selector.to_vec().into());
    assert_eq!(U256::from_be_slice(&chain_id), U256::from(31337));

    // Salt 0 and an init code that deploys nothing: the proxy answers with the CREATE2 address.
    let deployed = call(DEPLOYMENT_PROXY, Bytes::from(vec![0; 33]));
    assert_eq!(deployed, Bytes::from(DEPLOYMENT_PROXY.create2_from_code(B256::ZERO, [0]).to_vec()));
}

#[test]
fn the_request_contracts_take_requests_from_the_first_block_on() {
    for contract in [
        eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    ] {
        // Without input they answer with the fee of a request; while inhibited they would revert.
        assert_eq!(U256::from_be_slice(&call(contract, Bytes::new())), U256::from(1));
    }
}
