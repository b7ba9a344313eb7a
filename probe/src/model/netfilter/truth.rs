//! Answers that may be undecided, and numbers of which some bits are not known.

use crate::sample::Comparison;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    Yes,
    No,
    Undecided,
}

impl Truth {
    pub fn of(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Undecided,
        }
    }

    /// The opposite, where it is asked for.
    #[must_use]
    pub fn inverted(self, invert: bool) -> Self {
        match (self, invert) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            (truth, _) => truth,
        }
    }
}

/// A number of which these bits are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Zero where a bit is not known.
    pub value: u32,
    pub known: u32,
}

impl Bits {
    pub const UNKNOWN: Self = Self { value: 0, known: 0 };

    pub fn exactly(value: u32) -> Self {
        Self { value, known: u32::MAX }
    }

    /// A number of which only these bits are told.
    pub fn partly(value: u32, known: u32) -> Self {
        Self { value: value & known, known }
    }

    /// Whether it may be this number.
    pub fn may_be(self, value: u32) -> bool {
        (self.value ^ value) & self.known == 0
    }

    /// What is known where it is one number or the other.
    #[must_use]
    pub fn either(self, other: Self) -> Self {
        Self::partly(self.value, self.known & other.known & !(self.value ^ other.value))
    }

    /// After `(number & keep) ^ xor`.
    #[must_use]
    pub fn changed(self, keep: u32, xor: u32) -> Self {
        Self { value: (self.value & keep) ^ (xor & (self.known | !keep)), known: self.known | !keep }
    }

    #[must_use]
    pub fn without(self, bits: u32) -> Self {
        Self::partly(self.value, self.known & !bits)
    }

    /// Whether it, masked, lies between two numbers.
    pub fn within(self, mask: u32, (from, to): (u32, u32)) -> Truth {
        if mask & !self.known == 0 {
            return Truth::of((from..=to).contains(&(self.value & mask)));
        }
        // The smallest and largest that the unknown bits allow.
        let (least, most) = (self.value & mask, (self.value | !self.known) & mask);
        if most < from || least > to {
            return Truth::No;
        }
        if from == to {
            let impossible = from & !mask != 0 || (self.value ^ from) & self.known & mask != 0;
            return if impossible { Truth::No } else { Truth::Undecided };
        }
        if least >= from && most <= to { Truth::Yes } else { Truth::Undecided }
    }

    pub fn satisfies(self, comparison: &Comparison) -> Truth {
        let mut answer = Truth::No;
        for range in &comparison.ranges {
            match self.within(comparison.mask, *range) {
                Truth::Yes => return Truth::Yes.inverted(comparison.invert),
                Truth::Undecided => answer = Truth::Undecided,
                Truth::No => {}
            }
        }
        answer.inverted(comparison.invert)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few bits, so that unlike numbers often agree.
    fn small() -> impl Strategy<Value = u32> {
        0u32..16
    }

    proptest! {
        #[test]
        fn a_decided_answer_holds_whatever_the_unknown_bits_are(
            number in small(), known in small(), mask in small(), from in small(), to in small(),
        ) {
            let bits = Bits::partly(number, known);
            let within = |number: u32| (from..=to).contains(&(number & mask));
            let possible: Vec<bool> = (0..16).filter(|other| bits.may_be(*other)).map(within).collect();
            match bits.within(mask, (from, to)) {
                Truth::Yes => prop_assert!(possible.iter().all(|within| *within)),
                Truth::No => prop_assert!(possible.iter().all(|within| !within)),
                Truth::Undecided => prop_assert!(mask & !known != 0),
            }
        }

        #[test]
        fn changes_and_merges_lose_nothing_that_is_true(
            number in small(), known in small(), other in small(), keep in small(), xor in small(),
        ) {
            let bits = Bits::partly(number, known);
            prop_assert!(bits.changed(keep, xor).may_be((number & keep) ^ xor));
            let either = bits.either(Bits::exactly(other));
            prop_assert!(either.may_be(number) && either.may_be(other));
        }
    }
}
