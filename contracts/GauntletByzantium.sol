// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What the Gauntlet creates. It marks its birth in slot 0, so that a re-created child is told from one that lived on.
///
/// | function | does |
/// | --- | --- |
/// | `kill(address heir)` | SELFDESTRUCT, balance to `heir` (which may be the child itself) |
/// | `set(uint256 k, uint256 v)` | `slot[k] = v` |
/// | `get(uint256 k)` | returns `slot[k]` |
contract GauntletChild {
    constructor() payable {
        assembly {
            sstore(0, 1)
        }
    }

    receive() external payable {}

    function kill(address heir) external {
        assembly {
            selfdestruct(heir)
        }
    }

    function set(uint256 k, uint256 v) external {
        assembly {
            sstore(k, v)
        }
    }

    function get(uint256 k) external view returns (uint256 v) {
        assembly {
            v := sload(k)
        }
    }
}

/// One nasty thing a function, for tests that compare parallel with sequential execution.
///
/// There are no Solidity variables: `slot[k]` is literally storage slot `k` of this contract, chosen by the caller, so that
/// a generator decides which transactions collide. Results go into slots rather than return values, so that a wrong read
/// changes the state root. All functions are payable. A failing inner call never fails the outer one unless said.
/// This contract uses Byzantium's opcodes only; GauntletConstantinople and Gauntlet add what later forks brought.
///
/// | function | does |
/// | --- | --- |
/// | `inc()` | `slot[0] += 1`: the hot counter |
/// | `incAt(k)` | `slot[k] += 1` |
/// | `write(k, v)` | `slot[k] = v`, no read of its value by us (the gas rules still read it) |
/// | `read(k)` | returns `slot[k]` |
/// | `copyPlusOne(k, j)` | `slot[j] = slot[k] + 1` |
/// | `swap(i, j)` | exchanges two slots |
/// | `chase(k, n)` | follows `k = slot[k] % 256` for `n` steps, then `slot[k] += 1`: the location depends on the values read |
/// | `branch(k, i, j, v)` | writes `v` to `slot[i]` if `slot[k]` is odd, else to `slot[j]` |
/// | `writeMany(k, n, v)` | `slot[k .. k+n] = v` (v = 0 clears: refunds) |
/// | `recordBalance(a, k)` | `slot[k] = balance(a)` |
/// | `recordCoinbaseBalance(k)` | `slot[k] = balance(coinbase)`: makes the beneficiary's sum a real read |
/// | `recordCodeSize(a, k)` | `slot[k] = extcodesize(a)` |
/// | `recordCode(a, k)` | `slot[k] = keccak256(code(a))` by EXTCODECOPY |
/// | `recordBlock(k)` | `slot[k..k+6]` = number, coinbase, parent's hash, timestamp, gas limit, difficulty or randao |
/// | `recordBlockHash(n, k)` | `slot[k] = blockhash(n)` |
/// | `recordGas(k)` | `slot[k] = gas()`: differs if any gas before it differs |
/// | `recordSender(k)` | `slot[k..k+3]` = caller, origin, gas price |
/// | `pay(a, wei)` | CALL with value from this contract's balance, all gas |
/// | `payCoinbase(wei)` | the same to the beneficiary |
/// | `payTwice(a, b, wei)` | to `a`, then to `b`; fails as a whole if the second cannot be paid |
/// | `create(k, wei)` | CREATE a child with `wei`; `slot[k]` = its address, 0 if it failed |
/// | `createKill(heir, k, wei)` | creates a child and kills it in the same transaction; `slot[k]` = its address |
/// | `killChild(child, heir)` | `child.kill(heir)` |
/// | `setChild(child, k, v)` | `child.set(k, v)` |
/// | `copyFromChild(child, k, j)` | `slot[j] = child.get(k)`, all ones if the call fails |
/// | `destroy(heir)` | SELFDESTRUCT of the Gauntlet itself |
/// | `revertAfterWrites(k, v, n)` | `writeMany(k, n, v)`, then reverts with reason `gauntlet` |
/// | `revertIf(k, v)` | reverts if `slot[k] == v`, else `slot[k] += 1` |
/// | `innerRevert(k, v)` | calls itself to write `slot[k] = v` and revert, then `slot[k] += 1` |
/// | `burn()` | INVALID: all gas gone |
/// | `spin(n, k)` | hashes `n` times, then stores the hash in `slot[k]`: long, no state |
/// | `delegate(target, data)` | DELEGATECALL; reverts as the callee does |
/// | `callWithGas(target, limit, wei, data, k)` | CALL with that gas and value; `slot[k]` = 1 + success |
/// | `staticRead(target, data, k)` | STATICCALL; `slot[k]` = first returned word |
/// | `logs(topic, n)` | `n` rounds of LOG0 to LOG4, with the round as data |
contract GauntletByzantium {
    constructor() payable {}

    receive() external payable {}

    // ---- storage ----

    function inc() external payable {
        _store(0, _load(0) + 1);
    }

    function incAt(uint256 k) external payable {
        _store(k, _load(k) + 1);
    }

    function write(uint256 k, uint256 v) external payable {
        _store(k, v);
    }

    function read(uint256 k) external payable returns (uint256) {
        return _load(k);
    }

    function copyPlusOne(uint256 k, uint256 j) external payable {
        _store(j, _load(k) + 1);
    }

    function swap(uint256 i, uint256 j) external payable {
        uint256 old = _load(i);
        _store(i, _load(j));
        _store(j, old);
    }

    function chase(uint256 k, uint256 n) external payable {
        for (uint256 step = 0; step < n; step++) k = _load(k) % 256;
        _store(k, _load(k) + 1);
    }

    function branch(uint256 k, uint256 i, uint256 j, uint256 v) external payable {
        _store(_load(k) % 2 == 1 ? i : j, v);
    }

    function writeMany(uint256 k, uint256 n, uint256 v) public payable {
        for (uint256 at = 0; at < n; at++) _store(k + at, v);
    }

    // ---- accounts and the block ----

    function recordBalance(address a, uint256 k) external payable {
        _store(k, a.balance);
    }

    function recordCoinbaseBalance(uint256 k) external payable {
        _store(k, block.coinbase.balance);
    }

    function recordCodeSize(address a, uint256 k) external payable {
        _store(k, a.code.length);
    }

    function recordCode(address a, uint256 k) external payable {
        _store(k, uint256(keccak256(a.code)));
    }

    function recordBlock(uint256 k) external payable {
        _store(k, block.number);
        _store(k + 1, uint160(address(block.coinbase)));
        _store(k + 2, uint256(blockhash(block.number - 1)));
        _store(k + 3, block.timestamp);
        _store(k + 4, block.gaslimit);
        _store(k + 5, block.prevrandao); // the difficulty before Paris: the same opcode
    }

    function recordBlockHash(uint256 n, uint256 k) external payable {
        _store(k, uint256(blockhash(n)));
    }

    function recordGas(uint256 k) external payable {
        _store(k, gasleft());
    }

    function recordSender(uint256 k) external payable {
        _store(k, uint160(msg.sender));
        _store(k + 1, uint160(tx.origin));
        _store(k + 2, tx.gasprice);
    }

    // ---- value ----

    function pay(address a, uint256 amount) public payable returns (bool sent) {
        assembly {
            sent := call(gas(), a, amount, 0, 0, 0, 0)
        }
    }

    function payCoinbase(uint256 amount) external payable {
        pay(block.coinbase, amount);
    }

    function payTwice(address a, address b, uint256 amount) external payable {
        pay(a, amount);
        require(pay(b, amount), "gauntlet: second payment");
    }

    // ---- creation and destruction ----

    function create(uint256 k, uint256 amount) external payable {
        _store(k, uint160(_create(amount)));
    }

    function createKill(address heir, uint256 k, uint256 amount) external payable {
        address child = _create(amount);
        _store(k, uint160(child));
        if (child != address(0)) GauntletChild(payable(child)).kill(heir);
    }

    function killChild(address child, address heir) external payable {
        _try(child, abi.encodeWithSelector(GauntletChild.kill.selector, heir));
    }

    function setChild(address child, uint256 k, uint256 v) external payable {
        _try(child, abi.encodeWithSelector(GauntletChild.set.selector, k, v));
    }

    function copyFromChild(address child, uint256 k, uint256 j) external payable {
        (bool success, bytes memory data) = child.call(abi.encodeWithSelector(GauntletChild.get.selector, k));
        _store(j, success && data.length == 32 ? abi.decode(data, (uint256)) : type(uint256).max);
    }

    function destroy(address heir) external payable {
        assembly {
            selfdestruct(heir)
        }
    }

    // ---- failure ----

    function revertAfterWrites(uint256 k, uint256 v, uint256 n) external payable {
        writeMany(k, n, v);
        revert("gauntlet");
    }

    function revertIf(uint256 k, uint256 v) external payable {
        uint256 found = _load(k);
        require(found != v, "gauntlet: value found");
        _store(k, found + 1);
    }

    function innerRevert(uint256 k, uint256 v) external payable {
        _try(address(this), abi.encodeWithSelector(this.revertAfterWrites.selector, k, v, 1));
        _store(k, _load(k) + 1);
    }

    function burn() external payable {
        assembly {
            invalid()
        }
    }

    function spin(uint256 n, uint256 k) external payable {
        bytes32 hash = bytes32(n);
        for (uint256 round = 0; round < n; round++) hash = keccak256(abi.encodePacked(hash));
        _store(k, uint256(hash));
    }

    // ---- calls and logs ----

    function delegate(address target, bytes calldata data) external payable {
        (bool success, bytes memory reason) = target.delegatecall(data);
        if (!success) {
            assembly {
                revert(add(reason, 32), mload(reason))
            }
        }
    }

    function callWithGas(address target, uint256 limit, uint256 amount, bytes calldata data, uint256 k)
        external
        payable
    {
        (bool success,) = target.call{gas: limit, value: amount}(data);
        _store(k, success ? 2 : 1);
    }

    function staticRead(address target, bytes calldata data, uint256 k) external payable {
        (, bytes memory result) = target.staticcall(data);
        uint256 word;
        assembly {
            if gt(mload(result), 31) { word := mload(add(result, 32)) }
        }
        _store(k, word);
    }

    function logs(bytes32 topic, uint256 n) external payable {
        for (uint256 round = 0; round < n; round++) {
            assembly {
                mstore(0, round)
                log0(0, 32)
                log1(0, 32, topic)
                log2(0, 32, topic, round)
                log3(0, 32, topic, round, caller())
                log4(0, 32, topic, round, caller(), address())
            }
        }
    }

    // ---- parts ----

    function _load(uint256 k) internal view returns (uint256 v) {
        assembly {
            v := sload(k)
        }
    }

    function _store(uint256 k, uint256 v) internal {
        assembly {
            sstore(k, v)
        }
    }

    function _try(address target, bytes memory data) internal {
        (bool success,) = target.call(data);
        success; // a failure is part of the test
    }

    function _create(uint256 amount) internal returns (address child) {
        bytes memory code = type(GauntletChild).creationCode;
        assembly {
            child := create(amount, add(code, 32), mload(code))
        }
    }
}
