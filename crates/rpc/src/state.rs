//! Reading accounts, code, storage and proofs.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U64, U256};
use alloy_rpc_types_eth::{AccountInfo, EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_serde::JsonStorageKey;
use heddle_trie::EMPTY_ROOT_HASH;
use serde::Deserialize;

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
