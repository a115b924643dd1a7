//! Why a node did not do what it was asked for.

use crate::backend::redis::protocol::replies::redirect::Elsewhere;
use crate::error::Error;

#[derive(Debug)]
pub(crate) enum NodeError {
    /// It executed nothing, because another node of its cluster has the slot.
    Elsewhere(Box<Elsewhere>),
    Failed(Error),
}

pub(crate) type NodeResult<T> = Result<T, NodeError>;

impl From<Error> for NodeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl NodeError {
    /// The error if no other node is asked.
    pub fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Elsewhere(elsewhere) => {
                elsewhere.into_error("another node of the Redis Cluster has the slot", "try again")
            }
        }
    }
}
