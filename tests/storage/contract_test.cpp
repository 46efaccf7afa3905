// SPDX-License-Identifier: BSL-1.0
#include <string>

#include "catch.hpp"
#include "hailwire/storage/memory.hpp"
#include "hailwire/testing/storage_contract.hpp"
#include "storage/faulty_storage.hpp"
#include "storage/host_storage.hpp"

using namespace hailwire;
using faulty::fault;
using testing::outcome;
using testing::verdict;

namespace {

// Content is files_test's affair: what is tried here keeps none.
bool of_content(const std::string& name) { return name.starts_with("content "); }

std::string names(const std::vector<outcome>& outcomes, verdict what) {
  std::string out;
  for (const outcome& o : outcomes)
    if (o.what == what && !(what == verdict::not_offered && of_content(o.name))) out += o.name + '\n';
  return out;
}

bool has(const std::string& text, const char* part) { return text.find(part) != text.npos; }

std::atomic<std::int64_t> memory_now;
struct memory_fixture {
  std::shared_ptr<memory_storage> last;
  std::shared_ptr<memory_storage> open(testing::retention keep = {0, 0, std::chrono::seconds(0)}) {
    memory_options options;
    if (keep.messages) options.messages = keep.messages;
    if (keep.bytes) options.bytes = keep.bytes;
    options.age = keep.age;
    options.clock = options.steady = [] { return memory_now.load(); };
    return last = std::make_shared<memory_storage>(options);
  }
  std::shared_ptr<memory_storage> share() { return last; }
  std::int64_t now() const { return memory_now; }
  void advance(std::chrono::milliseconds time) { memory_now += time.count(); }
};

template <class Storage>
std::vector<outcome> outcomes_of(fault f) {
  return testing::storage_contract(faulty::fixture<Storage>{f});
}

struct kill {
  fault broken;
  const char* obligation;  // a part of its name
};

template <class Storage, std::size_t Size>
void check_kills(const kill (&list)[Size]) {
  for (const kill& k : list) {
    auto outcomes = outcomes_of<Storage>(k.broken);
    CAPTURE(static_cast<int>(k.broken), testing::report(outcomes));
    CHECK_FALSE(testing::fulfilled(outcomes));
    CHECK(has(names(outcomes, verdict::failed), k.obligation));
  }
}

}  // namespace

TEST_CASE("memory keeps the storage contract, all but restarts and later answers, which it does not offer") {
  auto outcomes = testing::storage_contract(memory_fixture());
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  CHECK(names(outcomes, verdict::not_offered) ==
        "a key and its message are kept in one step\n"
        "operations on one channel complete in the order in which they were started\n"
        "every handler is called exactly once, also when the storage is destroyed\n"
        "after a restart everything acknowledged is there, or the epoch is another\n"
        "after a restart keys are still known\n"
        "an erasure keeps its channel's order\n"
        "after a restart what was erased still is\n"
        "after a restart watermarks are where they were\n"
        "after a restart device tokens are still there\n");
}

TEST_CASE("a host's storage of two functions keeps the contract, and what is optional is reported as not offered") {
  auto outcomes = testing::storage_contract([] { return std::make_unique<host_storage>(); });
  INFO(testing::report(outcomes));
  CHECK(testing::fulfilled(outcomes));
  std::size_t passed = 0;
  for (const outcome& o : outcomes) passed += o.what == verdict::passed;
  CHECK(passed == 12);
  std::string absent = names(outcomes, verdict::not_offered);
  for (const char* part : {"epoch stays", "an empty channel has the epoch", "share an epoch", "retention", "key stores",
                           "after a restart", "complete in the order"})
    CHECK(has(absent, part));
}

TEST_CASE("a storage that offers everything passes everything, at once and later") {
  for (const auto& outcomes :
       {outcomes_of<faulty::storage>(fault::none), outcomes_of<faulty::later_storage>(fault::none)}) {
    INFO(testing::report(outcomes));
    CHECK(testing::fulfilled(outcomes));
  }
  CHECK(names(outcomes_of<faulty::later_storage>(fault::none), verdict::not_offered).empty());
}

TEST_CASE("the contract catches a storage that breaks a single promise") {
  constexpr kill list[] = {
      {fault::skips_an_offset, "without a hole"},
      {fault::repeats_an_offset, "without a hole"},
      {fault::swaps_two, "without a hole"},
      {fault::shows_late, "as soon as its append"},
      {fault::forgets_the_kind, "every byte comes back"},
      {fault::forgets_the_media_type, "every byte comes back"},
      {fault::cuts_at_nul, "every byte comes back"},
      {fault::forgets_the_sender, "every byte comes back"},
      {fault::rounds_the_time, "every byte comes back"},
      {fault::folds_case, "told apart by every byte of their names"},
      {fault::cuts_long_names, "told apart by every byte of their names"},
      {fault::invents_a_head, "never published to is empty"},
      {fault::reads_make_channels, "leaves no trace"},
      {fault::includes_since, "starting just after it"},
      {fault::reads_above_the_head, "at or above the head"},
      {fault::hides_the_head, "at or above the head"},
      {fault::throws_on_empty_reads, "at or above the head"},
      {fault::ignores_the_count, "no more messages than asked for"},
      {fault::ignores_the_bytes, "no more bytes than asked for"},
      {fault::returns_nothing_over_the_bytes, "no more bytes than asked for"},
      {fault::two_epochs, "an epoch stays"},
      {fault::renews_the_epoch, "an epoch stays"},
      {fault::bad_epoch, "an epoch stays"},
      {fault::epoch_with_the_first_message, "an empty channel"},
      {fault::another_epoch_when_empty, "an empty channel"},
      {fault::forgets_empty_channels, "an empty channel"},
      {fault::shares_epochs, "no two channels share an epoch"},
      {fault::reuses_epochs, "a log that starts anew"},
      {fault::drops_the_newest, "from the oldest end"},
      {fault::head_goes_back, "from the oldest end"},
      {fault::hides_what_it_dropped, "from the oldest end"},
      {fault::drops_too_much, "by count"},
      {fault::drops_nothing, "by count"},
      {fault::drops_by_bytes_too_much, "by bytes"},
      {fault::drops_nothing, "by bytes"},
      {fault::drops_the_big_one, "by bytes"},
      {fault::drops_young, "by age"},
      {fault::drops_nothing, "by age"},
      {fault::nothing_from_below, "from below the oldest"},
      {fault::forgets_keys, "stores its message once"},
      {fault::stores_duplicates, "stores its message once"},
      {fault::blind_to_conflicts, "is a conflict"},
      {fault::stores_conflicts, "is a conflict"},
      {fault::keys_for_all_channels, "in its own channel alone"},
      {fault::compares_half_the_key, "keys are told apart"},
      {fault::empty_is_a_key, "without a key"},
      {fault::key_dies_with_message, "outlives its message"},
      {fault::key_dies_young, "five minutes"},
      {fault::mixes_up_threads, "different threads"},
      {fault::loses_the_tail, "everything acknowledged is there"},
      {fault::starts_again_at_one, "everything acknowledged is there"},
      {fault::loses_keys, "keys are still known"},
      {fault::keeps_what_was_erased, "an erased message keeps its place"},
      {fault::erases_without_a_word, "an erased message keeps its place"},
      {fault::erases_the_sender, "an erased message keeps its place"},
      {fault::erases_the_next_one, "an erased message keeps its place"},
      {fault::erases_in_any_epoch, "a message is erased in its own epoch alone"},
      {fault::erases_what_is_not_there, "erasing what is not there"},
      {fault::erases_erasures, "erasing what is not there"},
      {fault::erases_twice, "erasing once more"},
      {fault::erased_key_is_new, "the key of an erased message"},
      {fault::loses_erasures, "what was erased still is"},
      {fault::ignores_own_retention, "a retention of its own"},
      {fault::one_retention_for_all, "a retention of its own"},
      {fault::keeps_to_old_retention, "a retention of its own"},
      {fault::ignores_own_age, "an age of its own"},
      {fault::marks_fall, "watermarks only rise"},
      {fault::marks_read_alone, "what was read has been received"},
      {fault::marks_without_devices, "a user's devices have watermarks of their own"},
      {fault::marks_any_epoch, "of another epoch or above the head"},
      {fault::marks_above_the_head, "of another epoch or above the head"},
      {fault::marks_seventeen_devices, "of a 17th device"},
      {fault::marks_drop_the_newest, "of a 17th device"},
      {fault::marks_in_one_page, "page by page"},
      {fault::marks_go_with_messages, "watermarks outlive their messages"},
      {fault::loses_marks, "watermarks are where they were"},
      {fault::token_loses_its_extra, "comes back as it was named"},
      {fault::token_of_two, "belongs to who named it last"},
      {fault::token_forgotten_by_any_name, "forgotten one by one"},
      {fault::tokens_of_seventeen, "of a 17th token"},
      {fault::loses_tokens, "device tokens are still there"},
      {fault::handle_lags, "none shows a lower head"},
  };
  check_kills<faulty::storage>(list);
}

TEST_CASE("the contract catches a storage whose later answers break a promise") {
  constexpr kill list[] = {
      {fault::key_after_message, "in one step"},
      {fault::completes_out_of_order, "complete in the order"},
      {fault::reads_overtake, "complete in the order"},
      {fault::calls_twice, "called exactly once"},
      {fault::forgets_at_the_end, "called exactly once"},
      {fault::erasures_overtake, "an erasure keeps its channel's order"},
  };
  check_kills<faulty::later_storage>(list);
}

TEST_CASE("an epoch for a storage of one's own comes of a secret and the channel's name, and of nothing else") {
  const std::string secret = "0123456789abcdef";
  CHECK(epoch_for(secret, "c") == epoch_for(secret, "c"));
  CHECK(valid_epoch(epoch_for(secret, "c")));
  CHECK(epoch_for(secret, "c").size() == 12);
  std::vector<std::string> all;
  for (const std::string& s : {secret, std::string("0123456789abcdeF"), secret + "x", secret.substr(1), std::string()})
    for (const char* channel : {"c", "d", "", "cc"}) all.push_back(epoch_for(s, channel));
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t k = 0; k < i; ++k) CHECK(all[i] != all[k]);
  // The same on every machine and in every version: cursors that clients hold are made of it.
  CHECK(epoch_for(secret, "c") == "oIINvNCElV8Q");
}
