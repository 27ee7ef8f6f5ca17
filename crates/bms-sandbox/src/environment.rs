//! What this process tells the native libraries it is going to load.

/// Sets a variable in this process's environment, where native libraries look for it. To be called first of all: it does
/// nothing, and says so with `false`, when there is a second thread, which might be reading the environment just then.
#[must_use]
pub fn set_variable(name: &str, value: &str) -> bool {
    let alone = crate::system::threads() == 1;
    if alone {
        // SAFETY: this is the only thread, and nobody but itself could start another meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
    alone
}
