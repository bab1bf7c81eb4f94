//! What a contract says when it reverts.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{Panic, Revert, SolError};

use crate::errors::Failure;

/// The error of a call that reverted with this output: geth's message, the output as data.
pub(crate) fn reverted(output: Bytes) -> Failure {
    let message = match reason(&output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    };
    Failure::Reverted { message, data: output }
}

/// The reason in words, if the output is `Error(string)` or `Panic(uint256)`.
fn reason(output: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(output) {
        return Some(revert.reason);
    }
    Panic::abi_decode(output).ok().map(|panic| panic_reason(panic.code))
}

/// geth's words for the panic codes of Solidity.
fn panic_reason(code: U256) -> String {
    let known = match u8::try_from(code) {
        Ok(0x00) => "generic panic",
        Ok(0x01) => "assert(false)",
        Ok(0x11) => "arithmetic underflow or overflow",
        Ok(0x12) => "division or modulo by zero",
        Ok(0x21) => "enum overflow",
        Ok(0x22) => "invalid encoded storage byte array accessed",
        Ok(0x31) => "out-of-bounds array access; popping on an empty array",
        Ok(0x32) => "out-of-bounds access of an array or bytesN",
        Ok(0x41) => "out of memory",
        Ok(0x51) => "uninitialized function",
        _ => return format!("unknown panic code: {code:#x}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{bytes, hex};

    #[test]
    fn reverts_are_described_as_the_execution_apis_tests_expect() {
        for (output, message) in [
            // From eth_estimateGas/estimate-call-abi-error and eth_call/call-revert-abi-panic.
            (
                bytes!(
                    "08c379a00000000000000000000000000000000000000000000000000000000000000020"
                    "000000000000000000000000000000000000000000000000000000000000000a"
                    "75736572206572726f7200000000000000000000000000000000000000000000"
                ),
                "execution reverted: user error",
            ),
            (
                bytes!("4e487b710000000000000000000000000000000000000000000000000000000000000001"),
                "execution reverted: assert(false)",
            ),
            (
                bytes!("4e487b710000000000000000000000000000000000000000000000000000000000000099"),
                "execution reverted: unknown panic code: 0x99",
            ),
            (
                Bytes::from_static(&hex!("77726f6e672d63616c6c6461746173697a65")),
                "execution reverted",
            ),
            (Bytes::new(), "execution reverted"),
            (bytes!("08c379a0"), "execution reverted"),
        ] {
            let failure = reverted(output.clone());
            assert_eq!(failure.code(), 3);
            assert_eq!(failure.to_string(), message);
            assert_eq!(failure, Failure::Reverted { message: message.to_owned(), data: output });
        }
    }

    #[test]
    fn an_error_string_without_padding_is_read_too() {
        // The encoding of estimate-call-abi-error as the test suite has it, 78 bytes: geth accepts it.
        let output = bytes!(
            "08c379a00000000000000000000000000000000000000000000000000000000000000020"
            "000000000000000000000000000000000000000000000000000000000000000a75736572206572726f72"
        );
        assert_eq!(reverted(output).to_string(), "execution reverted: user error");
    }
}
