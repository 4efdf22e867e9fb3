// Whether memory can be read or written, found out without a signal: the system copies a byte and
// says EFAULT where it may not.
#pragma once

#include "core/device.h"

namespace swapmem::test {

bool readable(Address address);
bool writable(Address address);  // leaves the byte as it is

}  // namespace swapmem::test
