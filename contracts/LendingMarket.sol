// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IMarketToken {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// A lending market of one asset against one collateral at a price of one to one, in the manner of Compound: interest
/// accrues through one index that all positions share, at a rate that rises with use and steeply past the kink.
///
/// Storage: slot 0 borrow index and time of the last accrual; 1 assets at hand; 2 assets lent out; 3 supply shares;
/// 4 reserves; 5 shares by account; 6 debts by account (principal, index); 7 collateral by account.
contract LendingMarket {
    uint256 private constant WAD = 1e18;
    /// Of the collateral's worth.
    uint256 public constant COLLATERAL_FACTOR = 0.75e18;
    /// Rates per second.
    uint256 private constant BASE_RATE = 0.02e18 / uint256(365 days);
    uint256 private constant SLOPE = 0.1e18 / uint256(365 days);
    uint256 private constant JUMP_SLOPE = 1e18 / uint256(365 days);
    uint256 private constant KINK = 0.8e18;
    uint256 private constant RESERVE_FACTOR = 0.1e18;

    struct Debt {
        uint128 principal;
        uint128 index;
    }

    IMarketToken public immutable asset;
    IMarketToken public immutable collateral;

    uint128 public borrowIndex = uint128(WAD);
    uint64 public accruedAt = uint64(block.timestamp);
    uint256 public cash;
    uint256 public totalBorrows;
    uint256 public totalShares;
    uint256 public totalReserves;
    mapping(address => uint256) public sharesOf;
    mapping(address => Debt) public debts;
    mapping(address => uint256) public collateralOf;

    event Accrued(uint256 interest, uint256 borrowIndex, uint256 totalBorrows);
    event Deposit(address indexed account, uint256 value, uint256 shares);
    event Withdraw(address indexed account, uint256 value, uint256 shares);
    event Borrow(address indexed account, uint256 value, uint256 debt, uint256 totalBorrows);
    event Repay(address indexed account, uint256 value, uint256 debt, uint256 totalBorrows);
    event CollateralIn(address indexed account, uint256 value);
    event CollateralOut(address indexed account, uint256 value);

    error NoCash();
    error NotEnough();
    error Undercollateralized();
    error TransferFailed();

    constructor(IMarketToken asset_, IMarketToken collateral_) {
        asset = asset_;
        collateral = collateral_;
    }

    /// Brings index, borrows and reserves up to now; every other call begins with this.
    function accrue() public {
        uint256 elapsed = block.timestamp - accruedAt;
        if (elapsed == 0) return;
        accruedAt = uint64(block.timestamp);
        uint256 borrows = totalBorrows;
        if (borrows == 0) return;
        uint256 factor = borrowRate() * elapsed;
        uint256 interest = (borrows * factor) / WAD;
        borrowIndex += uint128((borrowIndex * factor) / WAD);
        totalBorrows = borrows + interest;
        totalReserves += (interest * RESERVE_FACTOR) / WAD;
        emit Accrued(interest, borrowIndex, borrows + interest);
    }

    /// Interest per second.
    function borrowRate() public view returns (uint256) {
        uint256 borrows = totalBorrows;
        if (borrows == 0) return BASE_RATE;
        uint256 used = (borrows * WAD) / (cash + borrows - totalReserves);
        if (used <= KINK) return BASE_RATE + (used * SLOPE) / WAD;
        return BASE_RATE + (KINK * SLOPE) / WAD + ((used - KINK) * JUMP_SLOPE) / WAD;
    }

    function debtOf(address account) public view returns (uint256) {
        Debt storage debt = debts[account];
        return debt.principal == 0 ? 0 : (uint256(debt.principal) * borrowIndex) / debt.index;
    }

    function deposit(uint256 value) external {
        accrue();
        uint256 shares = totalShares == 0 ? value : (value * totalShares) / _owned();
        totalShares += shares;
        sharesOf[msg.sender] += shares;
        cash += value;
        _pull(asset, value);
        emit Deposit(msg.sender, value, shares);
    }

    function withdraw(uint256 shares) external {
        accrue();
        uint256 held = sharesOf[msg.sender];
        if (held < shares) revert NotEnough();
        uint256 value = (shares * _owned()) / totalShares;
        if (value > cash) revert NoCash();
        sharesOf[msg.sender] = held - shares;
        totalShares -= shares;
        cash -= value;
        _push(asset, value);
        emit Withdraw(msg.sender, value, shares);
    }

    function supplyCollateral(uint256 value) external {
        collateralOf[msg.sender] += value;
        _pull(collateral, value);
        emit CollateralIn(msg.sender, value);
    }

    function withdrawCollateral(uint256 value) external {
        accrue();
        uint256 held = collateralOf[msg.sender];
        if (held < value) revert NotEnough();
        collateralOf[msg.sender] = held - value;
        _check(msg.sender, debtOf(msg.sender));
        _push(collateral, value);
        emit CollateralOut(msg.sender, value);
    }

    function borrow(uint256 value) external {
        accrue();
        if (value > cash) revert NoCash();
        uint256 debt = debtOf(msg.sender) + value;
        _check(msg.sender, debt);
        debts[msg.sender] = Debt(uint128(debt), borrowIndex);
        uint256 borrows = totalBorrows + value;
        totalBorrows = borrows;
        cash -= value;
        _push(asset, value);
        emit Borrow(msg.sender, value, debt, borrows);
    }

    /// Repays up to the whole debt.
    function repay(uint256 value) external {
        accrue();
        uint256 debt = debtOf(msg.sender);
        if (value > debt) value = debt;
        debts[msg.sender] = Debt(uint128(debt - value), borrowIndex);
        // Debts are rounded down one by one, the total as a whole.
        uint256 borrows = totalBorrows;
        borrows = borrows > value ? borrows - value : 0;
        totalBorrows = borrows;
        cash += value;
        _pull(asset, value);
        emit Repay(msg.sender, value, debt - value, borrows);
    }

    /// What the shares stand for.
    function _owned() private view returns (uint256) {
        return cash + totalBorrows - totalReserves;
    }

    function _check(address account, uint256 debt) private view {
        if (debt > (collateralOf[account] * COLLATERAL_FACTOR) / WAD) revert Undercollateralized();
    }

    function _pull(IMarketToken token, uint256 value) private {
        if (!token.transferFrom(msg.sender, address(this), value)) revert TransferFailed();
    }

    function _push(IMarketToken token, uint256 value) private {
        if (!token.transfer(msg.sender, value)) revert TransferFailed();
    }
}
