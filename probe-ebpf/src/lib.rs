//! Empty: it exists so that the package has a library target, which workspace tools expect.
#![no_std]
