// The budget never goes over, not even for a moment.
#include <stdexcept>

#include "check.h"
#include "core/budget.h"

using namespace swapmem;

TEST(budget, a_charge_that_does_not_fit_is_refused_and_changes_nothing) {
  Budget budget(100);
  budget.charge(60);
  CHECK_THROWS(std::logic_error, budget.charge(41));
  CHECK_EQUAL(budget.used_bytes(), 60u);
  budget.charge(40);
  CHECK_EQUAL(budget.room_bytes(), 0u);
}

TEST(budget, no_more_is_released_than_was_charged) {
  Budget budget(100);
  budget.charge(10);
  CHECK_THROWS(std::logic_error, budget.release(11));
  budget.release(10);
  CHECK_EQUAL(budget.used_bytes(), 0u);
  CHECK_EQUAL(budget.peak_bytes(), 10u);
}
