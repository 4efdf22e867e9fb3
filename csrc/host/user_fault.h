// userfaultfd: system calls that touch swapped-out memory wait for it too, instead of failing with
// EFAULT. Many systems allow it to privileged processes alone; without it everything else works the
// same, by SIGSEGV. SWAPMEM_USERFAULTFD=0 in the environment turns it off.
#pragma once

#include "core/device.h"

namespace swapmem::user_fault {

struct Touch {
  Address address;
  int thread;
  bool write;
};

// The process's descriptor, opened at the first call; -1 where the system has or allows none.
int descriptor();

// A touch of the span, which has no memory, is reported. False where that cannot be had; the span
// is then as it was.
bool watch(Span span);
void forget(Span span);
void wake(Span span);  // those who wait for the span try again

bool read(Touch& touch);  // waits for the next report; false if there is none after all

}  // namespace swapmem::user_fault
