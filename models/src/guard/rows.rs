//! What is checked of the guard.

use super::{Guard, Way};
use crate::invariant::Invariant::Updates;
use crate::row::Expected::{Breaks, Holds};

crate::row::table! {
    short g01 "advance, read, write; tokens differ" Holds(756) => Guard::default();
    short g02 "guard.run; tokens differ" Holds(78) => Guard { way: Way::Run, ..Guard::default() };
    short g03 "guard.run; tokens may be equal" Holds(360)
        => Guard { way: Way::Run, unique: false, ..Guard::default() };
    short g04 "read before the fence advances" Breaks(Updates)
        => Guard { way: Way::ReadWrite, ..Guard::default() };
    short g05 "advance, read, write; tokens may be equal" Breaks(Updates)
        => Guard { unique: false, ..Guard::default() };
    short g06 "the same, and the store compares owners of equal tokens" Holds(2_109)
        => Guard { unique: false, owner: true, ..Guard::default() };
    short g07 "no check" Breaks(Updates) => Guard { compares: false, ..Guard::default() };
}
