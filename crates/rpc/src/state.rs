//! Reading accounts, code, storage and proofs.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U64, U256};
use alloy_rpc_types_eth::{AccountInfo, EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_serde::JsonStorageKey;
use heddle_trie::EMPTY_ROOT_HASH;
use revm::DatabaseRef;
use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    errors::Failure,
    params::{Args, Argument, BlockParam, Slot, from_json},
};

/// `eth_getBalance`.
pub(crate) fn balance(
    context: &Context,
    address: Address,
    block: BlockParam,
) -> Result<U256, Failure> {
    let account = context.state(block)?.account(address)?;
    Ok(account.unwrap_or_default().balance)
}

/// `eth_getTransactionCount`: of the pool too, where the pending block is meant.
pub(crate) fn transaction_count(
    context: &Context,
    address: Address,
    block: BlockParam,
) -> Result<U64, Failure> {
    let nonce = match block {
        BlockParam::Pending => context.next_nonce(address)?,
        _ => context.state(block)?.account(address)?.unwrap_or_default().nonce,
    };
    Ok(U64::from(nonce))
}

/// `eth_getCode`.
pub(crate) fn code(
    context: &Context,
    address: Address,
    block: BlockParam,
) -> Result<Bytes, Failure> {
    Ok(context.state(block)?.code_of(address)?)
}

/// `eth_getStorageAt`.
pub(crate) fn storage_at(
    context: &Context,
    address: Address,
    slot: Slot,
    block: BlockParam,
) -> Result<B256, Failure> {
    Ok(context.state(block)?.storage_at(address, slot.index)?.into())
}

/// The slots that `eth_getStorageValues` asks for, by account.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct SlotsByAccount(BTreeMap<Address, Vec<String>>);

impl Argument for SlotsByAccount {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// `eth_getStorageValues`.
pub(crate) fn storage_values(
    context: &Context,
    accounts: &SlotsByAccount,
    block: BlockParam,
) -> Result<BTreeMap<Address, Vec<B256>>, Failure> {
    let slots: usize = accounts.0.values().map(Vec::len).sum();
    if slots == 0 {
        return Err(Failure::params("empty request"));
    }
    check_slots(context, slots)?;
    let state = context.state(block)?;
    let read = |(address, slots): (&Address, &Vec<String>)| {
        let values = slots.iter().map(|slot| {
            let slot = Slot::read(slot).map_err(Failure::InvalidParams)?;
            Ok(B256::from(state.storage_at(*address, slot.index)?))
        });
        Ok((*address, values.collect::<Result<_, Failure>>()?))
    };
    accounts.0.iter().map(read).collect()
}

fn check_slots(context: &Context, slots: usize) -> Result<(), Failure> {
    match context.limits.slots_max {
        most if slots > most => Err(Failure::params(format!("too many slots (max {most})"))),
        _ => Ok(()),
    }
}

/// `eth_getAccountInfo`.
pub(crate) fn account_info(
    context: &Context,
    address: Address,
    block: BlockParam,
) -> Result<AccountInfo, Failure> {
    let state = context.state(block)?;
    let account = state.account(address)?.unwrap_or_default();
    Ok(AccountInfo {
        balance: account.balance,
        nonce: account.nonce,
        code: state.code_of(address)?,
    })
}

/// What `eth_getAccount` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrieAccountReply {
    balance: U256,
    nonce: U64,
    code_hash: B256,
    storage_root: B256,
}

/// `eth_getAccount`: null if there is no such account.
pub(crate) fn trie_account(
    context: &Context,
    (address, block): (Address, BlockParam),
) -> Result<Option<TrieAccountReply>, Failure> {
    if block == BlockParam::Pending {
        return Err(Failure::server("storage roots of the pending block are not supported"));
    }
    let number = context.known_number(block)?;
    let account = context.chain.proof_at(number, address, &[])?.account;
    Ok(account.map(|account| TrieAccountReply {
        balance: account.balance,
        nonce: U64::from(account.nonce),
        code_hash: account.code_hash,
        storage_root: account.storage_root,
    }))
}

/// Most blocks that `debug_getModifiedAccountsBy…` goes through.
const MODIFIED_BLOCKS_MAX: u64 = 1_024;

/// `debug_getModifiedAccountsBy…`: in the blocks after the first one up to the second, or in the one block.
pub(crate) fn modified_accounts(
    context: &Context,
    (start, end): (BlockParam, Option<BlockParam>),
) -> Result<BTreeSet<Address>, Failure> {
    let start = context.known_number(start)?;
    let (from, to) = match end {
        Some(end) => (start + 1, context.known_number(end)?),
        None if start == 0 => return Err(Failure::server("the genesis block has no parent")),
        None => (start, start),
    };
    if from > to {
        return Err(Failure::server(format!(
            "start block height ({start}) must be less than end block height ({to})"
        )));
    }
    if to - from >= MODIFIED_BLOCKS_MAX {
        return Err(Failure::Limit(format!(
            "at most {MODIFIED_BLOCKS_MAX} blocks can be asked about"
        )));
    }
    Ok(context.chain.changed_accounts(from, to)?)
}

/// `debug_codeByHash`; an error where nothing is stored.
pub(crate) fn code_by_hash(
    context: &Context,
    (hash, block): (B256, BlockParam),
) -> Result<Bytes, Failure> {
    Ok(context.state(block)?.code_by_hash_ref(hash)?.original_bytes())
}

/// What `eth_getProof` is asked for.
#[derive(Debug)]
pub(crate) struct ProofRequest {
    address: Address,
    slots: Vec<Slot>,
    block: BlockParam,
}

impl ProofRequest {
    pub(crate) fn parse(args: &mut Args<'_>) -> Result<Self, Failure> {
        Ok(Self {
            address: args.required()?,
            slots: args.or(Vec::new())?,
            block: args.or(BlockParam::Latest)?,
        })
    }
}

/// `eth_getProof` (EIP-1186).
pub(crate) fn proof(
    context: &Context,
    request: &ProofRequest,
) -> Result<EIP1186AccountProofResponse, Failure> {
    check_slots(context, request.slots.len())?;
    if request.block == BlockParam::Pending {
        return Err(Failure::server("proofs of the pending block are not supported"));
    }
    let number = context.known_number(request.block)?;
    let indexes: Vec<U256> = request.slots.iter().map(|slot| slot.index).collect();
    let proof = context.chain.proof_at(number, request.address, &indexes)?;
    let storage_proof =
        proof.storage.into_iter().zip(&request.slots).map(|(proof, slot)| EIP1186StorageProof {
            // As geth: the slot in the way it was asked for.
            key: if slot.is_word {
                JsonStorageKey::Hash(proof.slot.into())
            } else {
                JsonStorageKey::Number(proof.slot)
            },
            value: proof.value,
            proof: proof.proof,
        });
    Ok(EIP1186AccountProofResponse {
        address: request.address,
        balance: proof.account.map_or(U256::ZERO, |account| account.balance),
        code_hash: proof.account.map_or(KECCAK256_EMPTY, |account| account.code_hash),
        nonce: proof.account.map_or(0, |account| account.nonce),
        storage_hash: proof.account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root),
        account_proof: proof.proof,
        storage_proof: storage_proof.collect(),
    })
}
