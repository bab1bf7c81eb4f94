// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IPoolToken {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// A constant-product pool of two tokens with a fee of 0.3 %, a price oracle and shares for those who provide.
///
/// Storage: slot 0 both reserves and the time of their last change; 1 and 2 cumulative prices; 3 shares; 4 shares by
/// account.
contract SwapPool {
    IPoolToken public immutable token0;
    IPoolToken public immutable token1;

    uint112 public reserve0;
    uint112 public reserve1;
    uint32 public changedAt;
    uint256 public price0Cumulative;
    uint256 public price1Cumulative;
    uint256 public totalShares;
    mapping(address => uint256) public sharesOf;

    event Swap(address indexed account, address indexed tokenIn, uint256 amountIn, uint256 amountOut);
    event Provided(address indexed account, uint256 amount0, uint256 amount1, uint256 shares);
    event Removed(address indexed account, uint256 amount0, uint256 amount1, uint256 shares);
    event Sync(uint112 reserve0, uint112 reserve1);

    error Expired();
    error UnknownToken();
    error TooLittle(uint256 amountOut);
    error NotEnough();
    error TransferFailed();

    constructor(IPoolToken token0_, IPoolToken token1_) {
        token0 = token0_;
        token1 = token1_;
    }

    /// Sells `amountIn` of one token for at least `minimumOut` of the other.
    function swap(address tokenIn, uint256 amountIn, uint256 minimumOut, uint256 deadline)
        external
        returns (uint256 amountOut)
    {
        if (block.timestamp > deadline) revert Expired();
        bool zeroIn = tokenIn == address(token0);
        if (!zeroIn && tokenIn != address(token1)) revert UnknownToken();
        (uint256 inside, uint256 outside) = zeroIn ? (reserve0, reserve1) : (reserve1, reserve0);
        uint256 afterFee = amountIn * 997;
        amountOut = (afterFee * outside) / (inside * 1000 + afterFee);
        if (amountOut < minimumOut) revert TooLittle(amountOut);
        _pull(zeroIn ? token0 : token1, amountIn);
        if (zeroIn) _update(inside + amountIn, outside - amountOut);
        else _update(outside - amountOut, inside + amountIn);
        _push(zeroIn ? token1 : token0, amountOut);
        emit Swap(msg.sender, tokenIn, amountIn, amountOut);
    }

    /// Provides both tokens in the ratio of the reserves; the first to provide sets it.
    function provide(uint256 amount0, uint256 amount1) external returns (uint256 shares) {
        if (totalShares == 0) {
            shares = amount0;
        } else {
            shares = (amount0 * totalShares) / reserve0;
            amount1 = (amount0 * reserve1) / reserve0;
        }
        totalShares += shares;
        sharesOf[msg.sender] += shares;
        _pull(token0, amount0);
        _pull(token1, amount1);
        _update(reserve0 + amount0, reserve1 + amount1);
        emit Provided(msg.sender, amount0, amount1, shares);
    }

    function remove(uint256 shares) external returns (uint256 amount0, uint256 amount1) {
        uint256 held = sharesOf[msg.sender];
        if (held < shares) revert NotEnough();
        amount0 = (shares * reserve0) / totalShares;
        amount1 = (shares * reserve1) / totalShares;
        sharesOf[msg.sender] = held - shares;
        totalShares -= shares;
        _update(reserve0 - amount0, reserve1 - amount1);
        _push(token0, amount0);
        _push(token1, amount1);
        emit Removed(msg.sender, amount0, amount1, shares);
    }

    function _update(uint256 new0, uint256 new1) private {
        unchecked {
            // The cumulative prices may wrap: only differences are used.
            uint32 elapsed = uint32(block.timestamp) - changedAt;
            if (elapsed != 0 && reserve0 != 0 && reserve1 != 0) {
                price0Cumulative += ((uint256(reserve1) << 112) / reserve0) * elapsed;
                price1Cumulative += ((uint256(reserve0) << 112) / reserve1) * elapsed;
            }
        }
        if (new0 > type(uint112).max || new1 > type(uint112).max) revert NotEnough();
        reserve0 = uint112(new0);
        reserve1 = uint112(new1);
        changedAt = uint32(block.timestamp);
        emit Sync(uint112(new0), uint112(new1));
    }

    function _pull(IPoolToken token, uint256 value) private {
        if (!token.transferFrom(msg.sender, address(this), value)) revert TransferFailed();
    }

    function _push(IPoolToken token, uint256 value) private {
        if (!token.transfer(msg.sender, value)) revert TransferFailed();
    }
}
