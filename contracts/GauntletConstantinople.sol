// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {GauntletByzantium, GauntletChild} from "./GauntletByzantium.sol";

/// GauntletByzantium with CREATE2 and EXTCODEHASH. Compiled for Constantinople, it runs on every fork from there on, so
/// that destruction can be tried under the old rules (any account) and under EIP-6780's (same transaction only).
///
/// | function | does |
/// | --- | --- |
/// | `create2(salt, k, wei)` | CREATE2 a child with `wei`; `slot[k]` = its address, 0 if it failed |
/// | `childAddress(salt)` | returns where `create2` puts the child |
/// | `killChild2(salt, heir)` | kills the child of that salt: with `create2` in a later transaction, a re-creation |
/// | `setChild2(salt, k, v)` | `child.set(k, v)` |
/// | `copyFromChild2(salt, k, j)` | `slot[j] = child.get(k)`, all ones if there is none |
/// | `create2Kill(salt, heir, k, wei)` | creates and kills in one transaction; `slot[k]` = its address |
/// | `create2KillCreate2(salt, heir, k)` | the same, then creates again: `slot[k]`, `slot[k+1]` = both results (the second is 0) |
/// | `kill2Create2(salt, heir, k)` | kills the child of an earlier transaction and creates it anew in this one; `slot[k]` = the result |
/// | `create2Revert(salt)` | creates, then reverts: the address stays free |
/// | `recordCodeHash(a, k)` | `slot[k] = extcodehash(a)`: tells a missing account (0) from an empty one |
contract GauntletConstantinople is GauntletByzantium {
    constructor() payable {}

    function create2(bytes32 salt, uint256 k, uint256 amount) external payable {
        _store(k, uint160(_create2(salt, amount)));
    }

    function childAddress(bytes32 salt) public view returns (address) {
        bytes32 codeHash = keccak256(type(GauntletChild).creationCode);
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(this), salt, codeHash)))));
    }

    function killChild2(bytes32 salt, address heir) external payable {
        _kill(salt, heir);
    }

    function setChild2(bytes32 salt, uint256 k, uint256 v) external payable {
        _try(childAddress(salt), abi.encodeWithSelector(GauntletChild.set.selector, k, v));
    }

    function copyFromChild2(bytes32 salt, uint256 k, uint256 j) external payable {
        (bool success, bytes memory data) =
            childAddress(salt).call(abi.encodeWithSelector(GauntletChild.get.selector, k));
        _store(j, success && data.length == 32 ? abi.decode(data, (uint256)) : type(uint256).max);
    }

    function create2Kill(bytes32 salt, address heir, uint256 k, uint256 amount) external payable {
        _store(k, uint160(_create2(salt, amount)));
        _kill(salt, heir);
    }

    function create2KillCreate2(bytes32 salt, address heir, uint256 k) external payable {
        _store(k, uint160(_create2(salt, 0)));
        _kill(salt, heir);
        _store(k + 1, uint160(_create2(salt, 0)));
    }

    function kill2Create2(bytes32 salt, address heir, uint256 k) external payable {
        _kill(salt, heir);
        _store(k, uint160(_create2(salt, 0)));
    }

    function create2Revert(bytes32 salt) external payable {
        _create2(salt, 0);
        revert("gauntlet");
    }

    function recordCodeHash(address a, uint256 k) external payable {
        _store(k, uint256(a.codehash));
    }

    function _kill(bytes32 salt, address heir) private {
        _try(childAddress(salt), abi.encodeWithSelector(GauntletChild.kill.selector, heir));
    }

    function _create2(bytes32 salt, uint256 amount) private returns (address child) {
        bytes memory code = type(GauntletChild).creationCode;
        assembly {
            child := create2(amount, add(code, 32), mload(code), salt)
        }
    }
}
