// Time in which copies were under way: each way, and both ways at once.
#include "core/link_time.h"

#include "check.h"

using namespace swapmem;

TEST(link_time, copies_that_overlap_count_once) {
  LinkTime time;
  time.begin(Direction::out, 1);
  time.begin(Direction::out, 2);
  time.end(Direction::out, 4);
  CHECK_EQUAL(time.out_seconds(5), 4.0);
  time.end(Direction::out, 6);
  CHECK_EQUAL(time.out_seconds(9), 5.0);
  CHECK_EQUAL(time.in_seconds(9), 0.0);
  CHECK_EQUAL(time.both_seconds(9), 0.0);
}

TEST(link_time, both_ways_is_while_there_is_a_copy_of_each) {
  LinkTime time;
  time.begin(Direction::out, 1);
  time.begin(Direction::in, 2);
  time.begin(Direction::in, 3);
  CHECK_EQUAL(time.both_seconds(4), 2.0);
  time.end(Direction::in, 5);
  time.end(Direction::out, 6);
  CHECK_EQUAL(time.both_seconds(9), 4.0);
  time.begin(Direction::out, 10);
  time.end(Direction::in, 11);
  CHECK_EQUAL(time.both_seconds(20), 5.0);
  CHECK_EQUAL(time.in_seconds(20), 9.0);
  time.end(Direction::out, 21);
  CHECK_EQUAL(time.out_seconds(30), 16.0);
}
