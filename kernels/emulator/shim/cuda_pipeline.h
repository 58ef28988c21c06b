// cp.async. A copy happens when it is waited for, so that a missing wait is seen; under a random schedule half of them
// happen at once, so that a stage that is filled while it is read is seen too.
#pragma once
#include "shim.h"

inline void __pipeline_memcpy_async(void* to, const void* from, size_t n_bytes) { emulator::begin_copy(to, from, n_bytes); }
inline void __pipeline_commit() { ++emulator::current->n_groups; }
inline void __pipeline_wait_prior(uint64_t n) { emulator::wait_copies(n); }
