// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Pays many accounts in one transaction: its own creation. What it leaves behind does nothing.
contract Disperse {
    error PaymentFailed(address to);

    constructor(address[] memory to, uint256[] memory values) payable {
        for (uint256 i = 0; i < to.length; i++) {
            (bool paid,) = to[i].call{value: values[i]}("");
            if (!paid) revert PaymentFailed(to[i]);
        }
    }
}
