use super::*;
use crate::{
    RpcLimits,
    context::testing::{dev_context, first_signer},
};
use alloy_primitives::{B256, U256};
use std::time::{Duration, Instant};

fn request(json: &str) -> TransactionRequest {
    serde_json::from_str(json).unwrap()
}

#[test]
fn the_type_of_a_call_follows_from_its_fields() {
    let kind = |json: &str| transaction(&request(json), 1).map(|transaction| transaction.tx_type);
    let to = format!(r#""to":"{}""#, Address::ZERO);
    assert_eq!(kind("{}"), Ok(0));
    assert_eq!(kind(r#"{"gasPrice":"0x1"}"#), Ok(0));
    assert_eq!(kind(r#"{"accessList":[]}"#), Ok(1));
    assert_eq!(kind(r#"{"maxFeePerGas":"0x1"}"#), Ok(2));
    assert_eq!(kind(r#"{"maxPriorityFeePerGas":"0x0"}"#), Ok(2));
    assert_eq!(kind(&format!(r#"{{{to},"blobVersionedHashes":["{}"]}}"#, B256::ZERO)), Ok(3));
    assert_eq!(kind(&format!(r#"{{{to},"authorizationList":[]}}"#)), Ok(4));
    assert!(kind(r#"{"authorizationList":[]}"#).is_err(), "it cannot create");
}

#[test]
fn contradictory_calls_are_refused_in_geths_words() {
    let refused = |json: &str| transaction(&request(json), 1).unwrap_err().to_string();
    assert_eq!(
        refused(r#"{"gasPrice":"0x1","maxFeePerGas":"0x1"}"#),
        "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
    );
    assert_eq!(refused(r#"{"chainId":"0x2"}"#), "chainId does not match node's (have=2, want=1)");
}

#[test]
fn invalid_transactions_are_described_in_geths_words() {
    let caller = Address::repeat_byte(1);
    let describe = |invalid| match refused(EVMError::Transaction(invalid), caller, 5, 7) {
        Refused::Invalid(invalid) => (invalid.to_string(), invalid.is_out_of_gas),
        Refused::Failed(failure) => panic!("{failure}"),
    };
    let (message, is_out_of_gas) = describe(InvalidTransaction::LackOfFundForMaxFee {
        fee: Box::new(U256::from(9)),
        balance: Box::new(U256::ZERO),
    });
    assert_eq!(
        message,
        format!("insufficient funds for gas * price + value: address {caller} have 0 want 9")
    );
    assert!(!is_out_of_gas);
    let (message, is_out_of_gas) = describe(InvalidTransaction::CallGasCostMoreThanGasLimit {
        initial_gas: 21_000,
        gas_limit: 20_000,
    });
    assert_eq!(message, "intrinsic gas too low: have 20000, want 21000");
    assert!(is_out_of_gas);
    let (message, _) = describe(InvalidTransaction::GasPriceLessThanBasefee);
    assert_eq!(
        message,
        format!(
            "max fee per gas less than block base fee: address {caller}, maxFeePerGas: 5, baseFee: 7"
        )
    );
}

#[test]
fn a_call_without_fees_sees_no_base_fee_and_one_with_fees_does() {
    let environment = || {
        let mut env: EvmEnv = EvmEnv::default();
        env.block_env.basefee = 7;
        env
    };
    let mut free = environment();
    relax(&mut free, &transaction(&request("{}"), 1).unwrap());
    assert_eq!(free.block_env.basefee, 0);
    assert!(free.cfg_env.disable_base_fee);
    let mut paid = environment();
    relax(&mut paid, &transaction(&request(r#"{"gasPrice":"0x7"}"#), 1).unwrap());
    assert_eq!(paid.block_env.basefee, 7);
    assert!(!paid.cfg_env.disable_base_fee);
}

/// `JUMPDEST PUSH1 0 JUMP`, at an address where nothing else is.
fn endless_loop() -> CallRequest {
    let address = Address::repeat_byte(0x12);
    let request = request(&format!(r#"{{"to":"{address}"}}"#));
    let code = alloy_primitives::bytes!("5b600056");
    let overrides = alloy_rpc_types_eth::state::AccountOverride::default().with_code(code);
    CallRequest {
        request,
        block: BlockParam::Latest,
        state: Some(StateOverride::from_iter([(address, overrides)])),
        environment: None,
    }
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_gas_or_with_its_time() {
    let context = dev_context(RpcLimits { call_gas_max: 1_000_000, ..Default::default() });
    assert_eq!(call(&context, &endless_loop()).unwrap_err().to_string(), "out of gas");

    let limits = RpcLimits {
        call_gas_max: u64::MAX,
        call_time_max: Duration::from_millis(50),
        ..Default::default()
    };
    let context = dev_context(limits);
    let started = Instant::now();
    let failure = call(&context, &endless_loop()).unwrap_err();
    assert_eq!(failure.to_string(), "execution aborted (timeout = 50ms)");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_plain_transfer_is_estimated_at_21000_and_a_poor_one_refused() {
    let context = dev_context(RpcLimits::default());
    let (rich, poor) = (first_signer().address(), Address::repeat_byte(0x34));
    let estimate = |from: Address| {
        let json = format!(r#"{{"from":"{from}","to":"{poor}","value":"0x1"}}"#);
        let call = CallRequest {
            request: request(&json),
            block: BlockParam::Latest,
            state: None,
            environment: None,
        };
        crate::estimate::estimate(&context, &call)
    };
    assert_eq!(estimate(rich), Ok(21_000));
    let message = estimate(poor).unwrap_err().to_string();
    assert!(message.contains("insufficient funds for gas * price + value"), "{message}");
}
