//! Collections that are filled item by item.

/// Returns a map or set of `items`. `collect` sorts them first: each type, and each iterator, has 4 kB of code for
/// that, which pays for many thousands of items only.
#[must_use]
pub fn inserted<C: Default + Extend<T>, T>(items: impl IntoIterator<Item = T>) -> C {
    let mut filled = C::default();
    filled.extend(items);
    filled
}
