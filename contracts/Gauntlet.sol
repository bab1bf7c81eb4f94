// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {GauntletConstantinople} from "./GauntletConstantinople.sol";

/// The whole Gauntlet: everything of GauntletByzantium and GauntletConstantinople, compiled for Cancun, and
///
/// | function | does |
/// | --- | --- |
/// | `transientInc(t, k)` | `transient[t] += 1`, then `slot[k] = transient[t]`: always 1 unless it leaks between transactions |
/// | `transientRevert(t, k)` | an inner call sets `transient[t] = 7` and reverts; `slot[k] = transient[t]`, which is 0 |
/// | `transientFail(t)` | `transient[t] = 7`, then reverts |
/// | `recordFees(k)` | `slot[k..k+3]` = base fee, blob base fee, blob hash 0 |
/// | `recordSelfBalance(k)` | `slot[k] = selfbalance()` |
contract Gauntlet is GauntletConstantinople {
    constructor() payable {}

    function transientInc(uint256 t, uint256 k) external payable {
        uint256 v;
        assembly {
            v := add(tload(t), 1)
            tstore(t, v)
        }
        _store(k, v);
    }

    function transientFail(uint256 t) external payable {
        assembly {
            tstore(t, 7)
        }
        revert("gauntlet");
    }

    function transientRevert(uint256 t, uint256 k) external payable {
        _try(address(this), abi.encodeWithSelector(this.transientFail.selector, t));
        uint256 v;
        assembly {
            v := tload(t)
        }
        _store(k, v);
    }

    function recordFees(uint256 k) external payable {
        _store(k, block.basefee);
        _store(k + 1, block.blobbasefee);
        _store(k + 2, uint256(blobhash(0)));
    }

    function recordSelfBalance(uint256 k) external payable {
        _store(k, address(this).balance);
    }
}
