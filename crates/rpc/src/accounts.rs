//! The accounts that the node signs for: the development keys, which everybody knows.

use std::{collections::BTreeSet, fmt};

use alloy_consensus::{
    EthereumTxEnvelope, SignableTransaction, TxEip4844Variant, transaction::Recovered,
};
use alloy_dyn_abi::TypedData;
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use alloy_rpc_types_eth::{FillTransaction, Transaction, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use heddle_evm::RecoveredTransaction;
use heddle_pool::PoolTransaction;
use parking_lot::Mutex;

use crate::{
    call::CallRequest, context::Context, convert::RpcTransaction, errors::Failure, estimate, fees,
    params::BlockParam, transactions,
};

type Envelope = EthereumTxEnvelope<TxEip4844Variant<BlobTransactionSidecarVariant>>;
type Unsigned =
    alloy_consensus::EthereumTypedTransaction<TxEip4844Variant<BlobTransactionSidecarVariant>>;

/// The keys, and the order in which nonces are given out.
pub(crate) struct Accounts {
    signers: Vec<PrivateKeySigner>,
    /// Held from choosing a nonce until the pool has the transaction. Otherwise two calls get the same one.
    nonces: Mutex<()>,
    impersonated: Mutex<Impersonated>,
}

/// Accounts whose transactions need no signature.
#[derive(Debug, Default)]
struct Impersonated {
    accounts: BTreeSet<Address>,
    all: bool,
}

/// Most accounts that are impersonated by name at a time.
const IMPERSONATED_MAX: usize = 10_000;

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys do not belong in logs.
        f.debug_struct("Accounts").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl Accounts {
    pub(crate) fn new(signers: Vec<PrivateKeySigner>) -> Self {
        Self { signers, nonces: Mutex::new(()), impersonated: Mutex::default() }
    }

    /// `eth_accounts`: those with a key, then those that are impersonated.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let mut addresses: Vec<_> = self.signers.iter().map(PrivateKeySigner::address).collect();
        let impersonated = self.impersonated.lock();
        let others = impersonated.accounts.iter().filter(|address| !addresses.contains(address));
        let others: Vec<Address> = others.copied().collect();
        addresses.extend(others);
        addresses
    }

    /// `anvil_impersonateAccount`.
    pub(crate) fn impersonate(&self, address: Address) -> Result<(), Failure> {
        let mut impersonated = self.impersonated.lock();
        if impersonated.accounts.len() >= IMPERSONATED_MAX {
            return Err(Failure::Limit(format!(
                "{IMPERSONATED_MAX} accounts are impersonated; stop some, or use anvil_autoImpersonateAccount"
            )));
        }
        impersonated.accounts.insert(address);
        Ok(())
    }

    /// `anvil_stopImpersonatingAccount`.
    pub(crate) fn stop_impersonating(&self, address: Address) {
        self.impersonated.lock().accounts.remove(&address);
    }

    /// `anvil_autoImpersonateAccount`.
    pub(crate) fn impersonate_all(&self, on: bool) {
        self.impersonated.lock().all = on;
    }

    fn is_impersonated(&self, address: Address) -> bool {
        let impersonated = self.impersonated.lock();
        impersonated.all || impersonated.accounts.contains(&address)
    }

    /// Whether transactions can be sent in the name of this account.
    fn can_send(&self, address: Address) -> Result<(), Failure> {
        if self.is_impersonated(address) {
            return Ok(());
        }
        self.signer(address).map(drop)
    }

    fn signer(&self, address: Address) -> Result<&PrivateKeySigner, Failure> {
        let signer = self.signers.iter().find(|signer| signer.address() == address);
        signer.ok_or_else(|| Failure::server("unknown account"))
    }

    /// `eth_sign`, `personal_sign`: signs the message with its EIP-191 prefix.
    pub(crate) fn sign_message(&self, address: Address, message: &[u8]) -> Result<Bytes, Failure> {
        let signature = self.signer(address)?.sign_message_sync(message);
        Ok(bytes(signature.map_err(Failure::server)?))
    }

    /// `eth_signTypedData_v4` (EIP-712).
    pub(crate) fn sign_typed_data(
        &self,
        address: Address,
        data: &TypedData,
    ) -> Result<Bytes, Failure> {
        let signer = self.signer(address)?;
        let hash = data.eip712_signing_hash().map_err(Failure::params)?;
        Ok(bytes(signer.sign_hash_sync(&hash).map_err(Failure::server)?))
    }

    fn sign(&self, from: Address, transaction: Unsigned) -> Result<Envelope, Failure> {
        if self.signer(from).is_err() && self.is_impersonated(from) {
            return Ok(transaction.into_signed(stand_in(from)).into());
        }
        let signer = self.signer(from)?;
        let signature =
            signer.sign_hash_sync(&transaction.signature_hash()).map_err(Failure::server)?;
        Ok(transaction.into_signed(signature).into())
    }
}

/// In place of a signature that nobody can make. It belongs to the account alone, so that the transactions of two
/// accounts never have the same hash.
fn stand_in(from: Address) -> Signature {
    Signature::new(U256::from_be_slice(from.as_slice()), U256::ONE, false)
}

/// r, s, and v as 27 or 28.
fn bytes(signature: Signature) -> Bytes {
    signature.as_bytes().to_vec().into()
}

/// `eth_sendTransaction`.
pub(crate) fn send(context: &Context, request: TransactionRequest) -> Result<B256, Failure> {
    let from = sender(&request)?;
    context.accounts.can_send(from)?;
    let request = fill(context, request)?;
    let _nonces = context.accounts.nonces.lock();
    let request = with_nonce(context, request)?;
    let signed = context.accounts.sign(from, build(request)?)?;
    let signed = PoolTransaction::try_from(signed)
        .map_err(|_| Failure::server("missing sidecar in blob transaction"))?;
    transactions::submit_recovered(context, Recovered::new_unchecked(signed, from))
}

/// `eth_sendUnsignedTransaction`, on development chains only: from any account, with no signature.
pub(crate) fn send_unsigned(
    context: &Context,
    request: TransactionRequest,
) -> Result<B256, Failure> {
    let from = sender(&request)?;
    let request = fill(context, request)?;
    let _nonces = context.accounts.nonces.lock();
    let unsigned = build(with_nonce(context, request)?)?;
    let signed: Envelope = unsigned.into_signed(stand_in(from)).into();
    let signed = PoolTransaction::try_from(signed)
        .map_err(|_| Failure::server("missing sidecar in blob transaction"))?;
    transactions::submit_recovered(context, Recovered::new_unchecked(signed, from))
}

/// A transaction of one of the accounts as a block has it, everything filled in that is missing.
pub(crate) fn signed(
    context: &Context,
    request: TransactionRequest,
) -> Result<RecoveredTransaction, Failure> {
    let from = sender(&request)?;
    context.accounts.can_send(from)?;
    let request = with_nonce(context, fill(context, request)?)?;
    let signed = context.accounts.sign(from, build(request)?)?;
    Ok(Recovered::new_unchecked(signed.into(), from))
}

/// `eth_signTransaction`. Fills in what is missing, where geth insists on everything.
pub(crate) fn sign(
    context: &Context,
    request: TransactionRequest,
) -> Result<FillTransaction<RpcTransaction>, Failure> {
    let from = sender(&request)?;
    context.accounts.can_send(from)?;
    let request = with_nonce(context, fill(context, request)?)?;
    let signed = context.accounts.sign(from, build(request)?)?;
    Ok(reply(signed, from))
}

/// `eth_fillTransaction`: what would be signed, with a signature of zeros.
pub(crate) fn fill_only(
    context: &Context,
    request: TransactionRequest,
) -> Result<FillTransaction<RpcTransaction>, Failure> {
    let from = request.from.unwrap_or_default();
    let request = with_nonce(context, fill(context, request)?)?;
    let unsigned: Envelope =
        build(request)?.into_signed(Signature::new(U256::ZERO, U256::ZERO, false)).into();
    Ok(reply(unsigned, from))
}

fn reply(signed: Envelope, from: Address) -> FillTransaction<RpcTransaction> {
    let raw = signed.encoded_2718().into();
    let transaction = Recovered::new_unchecked(signed.into(), from);
    FillTransaction { raw, tx: Transaction::from_transaction(transaction, Default::default()) }
}

fn sender(request: &TransactionRequest) -> Result<Address, Failure> {
    request.from.ok_or_else(|| Failure::server("unknown account"))
}

/// Fills in everything that the sender left open, except the nonce.
fn fill(context: &Context, mut request: TransactionRequest) -> Result<TransactionRequest, Failure> {
    let chain_id = context.chain.chain_id();
    if let Some(have) = request.chain_id.filter(|have| *have != chain_id) {
        return Err(Failure::server(format!(
            "chainId does not match node's (have={have}, want={chain_id})"
        )));
    }
    request.chain_id = Some(chain_id);
    request.input = request
        .input
        .try_into_unique_input()
        .map_err(|_| Failure::server(
            "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass transaction call data",
        ))?
        .into();
    if request.to.is_none_or(|to| to.is_create()) {
        if request.input.input().is_none_or(|input| input.is_empty()) {
            return Err(Failure::server("contract creation without any data provided"));
        }
        request.to = Some(TxKind::Create);
    }
    fill_fees(context, &mut request)?;
    if request.gas.is_none() {
        // With instant mining the head is what the transaction will meet; otherwise what waits before it counts too.
        let block = if context.miner.automine() { BlockParam::Latest } else { BlockParam::Pending };
        let call = CallRequest { request: request.clone(), block, state: None, environment: None };
        request.gas = Some(estimate::estimate(context, &call)?);
    }
    Ok(request)
}

fn fill_fees(context: &Context, request: &mut TransactionRequest) -> Result<(), Failure> {
    let has_1559_fees =
        request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() {
        if has_1559_fees {
            return Err(Failure::server(
                "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified",
            ));
        }
        return Ok(());
    }
    let suggested = context.tips.suggestion(context)?;
    let has_base_fee = context.chain.spec().next_base_fee(&context.chain.head().header).is_some();
    let wants_legacy = matches!(request.transaction_type, Some(0 | 1));
    if !has_1559_fees && (wants_legacy || !has_base_fee) {
        request.gas_price = Some(fees::default_fee_cap(context, suggested));
        return Ok(());
    }
    // A suggested tip gives way to a fee cap that the sender has set.
    let suggested = suggested.min(request.max_fee_per_gas.unwrap_or(u128::MAX));
    let tip = *request.max_priority_fee_per_gas.get_or_insert(suggested);
    let fee_cap = fees::default_fee_cap(context, tip);
    let max_fee = *request.max_fee_per_gas.get_or_insert(fee_cap);
    if max_fee < tip {
        return Err(Failure::server(format!(
            "maxFeePerGas ({max_fee}) < maxPriorityFeePerGas ({tip})"
        )));
    }
    request.populate_blob_hashes();
    if request.blob_versioned_hashes.is_some() {
        // As geth: room for the blob fee to double.
        request.max_fee_per_blob_gas.get_or_insert(2 * context.chain.next_blob_base_fee());
    }
    Ok(())
}

fn with_nonce(
    context: &Context,
    mut request: TransactionRequest,
) -> Result<TransactionRequest, Failure> {
    if request.nonce.is_none() {
        request.nonce = Some(context.next_nonce(request.from.unwrap_or_default())?);
    }
    Ok(request)
}

fn build(request: TransactionRequest) -> Result<Unsigned, Failure> {
    request.build_consensus_tx().map_err(|error| Failure::params(error.error))
}
