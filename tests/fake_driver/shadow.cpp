#include "fake_driver/shadow.h"

#include <algorithm>
#include <iterator>

#include "fake_driver/work.h"

namespace fake {

void Shadow::split(std::size_t at) {
  auto after = bytes_.upper_bound(at);
  if (after == bytes_.begin()) return;
  auto piece = std::prev(after);
  if (piece->first == at || piece->second.end <= at) return;
  Bytes rest = piece->second;
  piece->second.end = at;
  bytes_.emplace_hint(after, at, std::move(rest));
}

void Shadow::fill_gaps(std::size_t begin, std::size_t end) {
  std::size_t at = begin;
  for (auto piece = bytes_.lower_bound(begin); at < end;) {
    const bool gap = piece == bytes_.end() || piece->first > at;
    if (gap) {
      const std::size_t stop = piece == bytes_.end() ? end : std::min(end, piece->first);
      piece = bytes_.emplace_hint(piece, at, Bytes{stop, {}, {}});
    }
    at = piece->second.end;
    ++piece;
  }
}

void Shadow::touch(std::size_t begin, std::size_t end, bool write, const Access& access,
                   const VectorClock& known, std::vector<Access>& unordered,
                   std::vector<Access>& before) {
  if (begin == end) return;
  split(begin);
  split(end);
  fill_gaps(begin, end);
  const auto judge = [&](const Access& earlier) {
    if (earlier.step == 0) return;
    (known.at(earlier.actor) >= earlier.step ? before : unordered).push_back(earlier);
  };
  const auto first = bytes_.find(begin);
  const auto last = bytes_.lower_bound(end);
  for (auto piece = first; piece != last; ++piece) {
    Bytes& bytes = piece->second;
    judge(bytes.write);
    if (write) {
      std::for_each(bytes.reads.begin(), bytes.reads.end(), judge);
      continue;
    }
    const auto same = std::find_if(bytes.reads.begin(), bytes.reads.end(),
                                   [&](const Access& r) { return r.actor == access.actor; });
    if (same != bytes.reads.end()) {
      *same = access;
    } else {
      bytes.reads.push_back(access);
    }
  }
  if (!write) return;
  bytes_.erase(first, last);
  bytes_[begin] = Bytes{end, access, {}};
}

void Uses::add(const Access& access) {
  Access& last = last_[access.actor];
  if (access.step >= last.step) last = access;
}

const Access* Uses::not_known(const VectorClock& known) const {
  for (const auto& [actor, access] : last_) {
    if (known.at(actor) < access.step) return &access;
  }
  return nullptr;
}

double Uses::finished_seconds() const {
  double seconds = 0;
  for (const auto& [actor, access] : last_) {
    if (access.work != nullptr) seconds = std::max(seconds, access.work->finished_seconds);
  }
  return seconds;
}

}  // namespace fake
