//! Refuses those who lead no more, where something takes effect.

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::leadership::Token;
use super::name;
use crate::kv::command::{Condition, Holds, Op, Revision, Txn};
use crate::kv::{Done, Kv};

pub use super::error::{GuardError, Stale};

/// Stands before a resource, and lets nobody through whose token is lower than one that it has seen. One
/// fence is for one resource and one election.
///
/// It remembers one number, in memory. A resource that outlives its process has the fence stored with it:
/// see [`Fenced`]; or begins with the [highest](Self::since) token that is known.
///
/// ```
/// use macula_platform::election::Token;
/// use macula_platform::election::fence::Fence;
///
/// let fence = Fence::default();
/// assert!(fence.check(Token(7)).is_ok());
/// // Another one leads since, and has been here.
/// assert!(fence.check(Token(9)).is_ok());
/// assert!(fence.check(Token(7)).is_err());
/// ```
#[derive(Debug, Default)]
pub struct Fence(Mutex<Token>);

impl Fence {
    /// One that has seen a token.
    #[must_use]
    pub const fn since(token: Token) -> Self {
        Self(Mutex::new(token))
    }

    /// The highest token that it has seen; 0 if none.
    #[must_use]
    pub fn highest(&self) -> Token {
        *self.0.lock()
    }

    /// Lets a token through, and remembers it. What is done afterwards may be done after somebody else
    /// has come through: [`run`](Self::run) does it inside.
    ///
    /// # Errors
    ///
    /// [`Stale`] if a higher one has been seen.
    pub fn check(&self, token: Token) -> Result<(), Stale> {
        self.run(token, || ())
    }

    /// Does something under a token, and lets nobody else through meanwhile. It should not take long, and
    /// must not come back to this fence.
    ///
    /// # Errors
    ///
    /// [`Stale`] if a higher one has been seen. Nothing was done.
    pub fn run<T>(&self, token: Token, action: impl FnOnce() -> T) -> Result<T, Stale> {
        let mut highest = self.0.lock();
        admit(&mut highest, token)?;
        let done = action();
        drop(highest);
        Ok(done)
    }
}

fn admit(highest: &mut Token, token: Token) -> Result<(), Stale> {
    if token < *highest {
        return Err(Stale { token, newest: Some(*highest) });
    }
    *highest = token;
    Ok(())
}

/// A value with its fence, to be stored as one: whoever loads it again is fenced as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fenced<T> {
    highest: Token,
    value: T,
}

impl<T> Fenced<T> {
    /// A value that anybody may change.
    pub const fn new(value: T) -> Self {
        Self { highest: Token(0), value }
    }

    /// The value.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// The highest token that has changed it; 0 if none.
    pub const fn highest(&self) -> Token {
        self.highest
    }

    /// The value, to be changed under a token. It is to be stored with the token, at one time.
    ///
    /// # Errors
    ///
    /// [`Stale`] if a higher one has changed it.
    pub fn get_mut(&mut self, token: Token) -> Result<&mut T, Stale> {
        admit(&mut self.highest, token)?;
        Ok(&mut self.value)
    }
}

/// The keys and values of the group, for who leads an election: each change is made on condition that it
/// still leads, at the moment at which the group agrees.
#[derive(Debug, Clone)]
pub struct Guarded {
    kv: Kv,
    key: Bytes,
    token: Token,
}

impl Kv {
    /// Changes that are made only as long as whoever has the token leads the election.
    #[must_use]
    pub fn guarded(&self, election: &str, token: Token) -> Guarded {
        Guarded { kv: self.clone(), key: name::key(election), token }
    }
}

impl Guarded {
    /// Gives a key a value.
    ///
    /// # Errors
    ///
    /// [`GuardError`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Revision, GuardError> {
        let put = Op::Put { key: key.into(), value: value.into(), lease: None };
        Ok(self.txn(Txn { then: vec![put], ..Txn::default() }).await?.revision)
    }

    /// Deletes a key. Gives whether it was there.
    ///
    /// # Errors
    ///
    /// [`GuardError`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<bool, GuardError> {
        let delete = Op::Delete(key.into());
        let done = self.txn(Txn { then: vec![delete], ..Txn::default() }).await?;
        Ok(done.found.first().is_some_and(Option::is_some))
    }

    /// Looks at some keys, and then does one thing, if it still leads; or looks at others.
    ///
    /// # Errors
    ///
    /// [`GuardError`].
    pub async fn txn(&self, mut txn: Txn) -> Result<Done, GuardError> {
        if !txn.otherwise.iter().all(|op| matches!(op, Op::Get(_))) {
            return Err(GuardError::Otherwise);
        }
        let holds = Holds::CreatedAt(self.token.0);
        txn.conditions.push(Condition { key: self.key.clone(), holds });
        txn.otherwise.push(Op::Get(self.key.clone()));
        let mut done = self.kv.txn(txn).await?;
        if done.held {
            return Ok(done);
        }
        let newest = done.found.pop().flatten().map(|item| Token(item.created));
        if newest == Some(self.token) {
            return Ok(done);
        }
        Err(Stale { token: self.token, newest }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Fence, Fenced, Token};

    #[test]
    fn a_fence_lets_nobody_through_who_is_older_than_one_before() {
        let fence = Fence::since(Token(5));
        assert_eq!(fence.check(Token(4)).unwrap_err().newest, Some(Token(5)));
        assert_eq!(fence.run(Token(5), || 1), Ok(1));
        assert_eq!(fence.check(Token(8)), Ok(()));
        let mut is_done = false;
        assert!(fence.run(Token(7), || is_done = true).is_err() && !is_done);
        assert_eq!(fence.highest(), Token(8));
    }

    #[test]
    fn what_is_stored_keeps_its_fence() {
        let mut value = Fenced::new(1);
        *value.get_mut(Token(3)).unwrap() = 2;
        let stored = serde_json::to_string(&value).unwrap();
        let mut loaded: Fenced<i32> = serde_json::from_str(&stored).unwrap();
        assert_eq!((*loaded.get(), loaded.highest()), (2, Token(3)));
        let told = loaded.get_mut(Token(2)).unwrap_err().to_string();
        assert_eq!(told, "token 2 is stale: 3 has been seen");
    }
}
