//! The names that a lease covers.

use std::sync::Arc;

use crate::error::{Error, Result};

/// Longest resource name, in bytes of UTF-8.
pub const MAX_RESOURCE_BYTES: usize = 512;

/// The names one lease covers: at least one, all different, each 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resources(Names);

/// One name is the usual case, so it costs one allocation. Shared, because an attempt passes it on several
/// times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Names {
    One(Arc<str>),
    Many(Arc<[Arc<str>]>),
}

impl Resources {
    /// A single resource.
    pub fn one(name: impl Into<Arc<str>>) -> Result<Self> {
        let name = name.into();
        Self::check(&name)?;
        Ok(Self(Names::One(name)))
    }

    /// Several resources, in the caller's order.
    pub fn many(names: Vec<String>) -> Result<Self> {
        let names: Arc<[Arc<str>]> = names.into_iter().map(Arc::from).collect();
        if names.is_empty() {
            return Err(Error::invalid("an array of resources must not be empty"));
        }
        names.iter().try_for_each(|name| Self::check(name))?;
        let mut sorted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        sorted.sort_unstable();
        if let Some([twice, _]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("the resource {twice:?} is named twice")));
        }
        Ok(Self(Names::Many(names)))
    }

    fn check(name: &str) -> Result<()> {
        if (1..=MAX_RESOURCE_BYTES).contains(&name.len()) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "a resource has 1 to {MAX_RESOURCE_BYTES} bytes of UTF-8, got {}",
            name.len()
        )))
    }

    /// The names, in the caller's order.
    pub fn as_slice(&self) -> &[Arc<str>] {
        match &self.0 {
            Names::One(name) => std::slice::from_ref(name),
            Names::Many(names) => names,
        }
    }

    /// The first name, which messages use.
    pub fn first(&self) -> &str {
        &self.as_slice()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_keep_their_order_and_reject_names_no_lock_can_have() {
        let names = Resources::many(vec!["b".into(), "a".into()]).unwrap();
        assert_eq!(names.first(), "b");
        assert_eq!(names.as_slice().len(), 2);
        assert!(Resources::one("x".repeat(512)).is_ok());
        for bad in [Resources::one(""), Resources::one("x".repeat(513)), Resources::many(vec![])] {
            assert_eq!(bad.unwrap_err().code(), "INVALID_OPTION");
        }
        let twice = Resources::many(vec!["a".into(), "b".into(), "a".into()]).unwrap_err();
        assert_eq!(twice.to_string(), "the resource \"a\" is named twice");
    }
}
