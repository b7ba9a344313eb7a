//! A target on this node answers this node; whether other nodes reach it depends on what decapsulates here.

use super::{
    case::{Case, Located},
    tunnel,
};
use crate::report::document::Direction;

/// What keeps encapsulated packets of other nodes from this node's pods, as far as this node's state proves it.
pub fn broken(case: &Case<'_>) -> Option<Located> {
    tunnel::down_for_arrivals(case, Direction::Forward)
}
