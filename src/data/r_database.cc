// The index is a gzip'ed R serialization (XDR, version 2 or 3) of a list whose element `variables` holds a pair
// (offset, length) per variable; at that place of the data file stand the raw size (4 bytes, big-endian) and a zlib
// stream of the variable's own serialization. Only the types that such files consist of are read.
#include "data/r_database.h"

#include "base/error.h"
#include "base/file.h"
#include "data/inflate.h"

namespace whit {
namespace {

constexpr size_t kLimit = size_t{1} << 28;

struct RValue {
  std::vector<std::string> strings;
  std::vector<int32_t> integers;
  std::vector<RValue> items;
  std::vector<std::string> names;  // of the items
};

class RReader {
 public:
  RReader(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  RValue read() {
    if (take(2) != "X\n") damaged("not an R serialization");
    const uint32_t version = word();
    take(8);                         // versions of R
    if (version == 3) take(word());  // the native encoding
    if (version != 2 && version != 3) damaged("version " + std::to_string(version));
    return item(0);
  }

 private:
  enum Type : uint32_t {
    kSymbol = 1,
    kPairs = 2,
    kCharacters = 9,
    kLogical = 10,
    kInteger = 13,
    kString = 16,
    kList = 19,
    kNil = 254,
    kReference = 255
  };

  [[noreturn]] void damaged(const std::string& found) const {
    throw Error(ErrorKind::input, "the R data cannot be read", where_, found + " at byte " + std::to_string(at_));
  }
  std::string_view take(size_t count) {
    if (count > bytes_.size() - at_) damaged("the end");
    const std::string_view part = bytes_.substr(at_, count);
    at_ += count;
    return part;
  }
  uint32_t word() {
    const std::string_view four = take(4);
    uint32_t value = 0;
    for (const char c : four) value = (value << 8) | static_cast<unsigned char>(c);
    return value;
  }
  // The length of a vector whose elements take at least `least` bytes each.
  size_t length(size_t least) {
    const uint32_t count = word();
    if (count > (bytes_.size() - at_) / least) damaged("a vector of " + std::to_string(count));
    return count;
  }
  std::string characters() {
    const uint32_t flags = word();
    if ((flags & 0xff) != kCharacters) damaged("type " + std::to_string(flags & 0xff));
    const uint32_t count = word();
    return count == 0xffffffffu ? std::string() : std::string(take(count));  // all ones: NA
  }

  RValue item(int depth) {
    if (depth > 32) damaged("deep nesting");
    const uint32_t flags = word();
    RValue value;
    switch (flags & 0xff) {
      case kNil:
        return value;
      case kInteger:
      case kLogical:
        for (size_t count = length(4); count > 0; --count) value.integers.push_back(static_cast<int32_t>(word()));
        break;
      case kString:
        for (size_t count = length(8); count > 0; --count) value.strings.push_back(characters());
        break;
      case kList:
        for (size_t count = length(4); count > 0; --count) value.items.push_back(item(depth + 1));
        break;
      default:
        damaged("type " + std::to_string(flags & 0xff));
    }
    if (flags & 0x200) attributes(value, depth + 1);
    return value;
  }
  // A chain of (tag, value) that a nil ends.
  void attributes(RValue& owner, int depth) {
    for (;;) {
      const uint32_t flags = word();
      if ((flags & 0xff) == kNil) return;
      if ((flags & 0xff) != kPairs || !(flags & 0x400)) damaged("type " + std::to_string(flags & 0xff));
      const std::string tag = symbol();
      RValue value = item(depth);
      if (tag == "names") owner.names = std::move(value.strings);
    }
  }
  std::string symbol() {
    const uint32_t flags = word();
    if ((flags & 0xff) == kSymbol) {
      symbols_.push_back(characters());
      return symbols_.back();
    }
    if ((flags & 0xff) != kReference) damaged("type " + std::to_string(flags & 0xff));
    const uint32_t packed = flags >> 8, index = packed ? packed : word();
    if (index == 0 || index > symbols_.size()) damaged("reference " + std::to_string(index));
    return symbols_[index - 1];
  }

  std::string_view bytes_;
  std::string where_;
  size_t at_ = 0;
  std::vector<std::string> symbols_;
};

}  // namespace

std::map<std::string, std::vector<std::string>> read_r_strings(const std::filesystem::path& rdx,
                                                               const std::filesystem::path& rdb) {
  const auto index_file = MappedFile::open(rdx), data_file = MappedFile::open(rdb);
  const std::string index_bytes = inflate_all(index_file->bytes(), rdx.string(), kLimit);
  const RValue index = RReader(index_bytes, rdx.string()).read();
  std::map<std::string, std::vector<std::string>> result;
  for (size_t i = 0; i < index.items.size() && i < index.names.size(); ++i) {
    if (index.names[i] != "variables") continue;
    const RValue& variables = index.items[i];
    for (size_t k = 0; k < variables.items.size() && k < variables.names.size(); ++k) {
      const auto& place = variables.items[k].integers;
      const auto data = data_file->bytes();
      const std::string where = rdb.string() + ": " + variables.names[k];
      if (place.size() != 2 || place[0] < 0 || place[1] < 4 || static_cast<size_t>(place[0]) > data.size() ||
          static_cast<size_t>(place[1]) > data.size() - static_cast<size_t>(place[0]))
        throw Error(ErrorKind::input, "the R data lies outside of its file", where);
      const auto stream = data.subspan(static_cast<size_t>(place[0]) + 4, static_cast<size_t>(place[1]) - 4);
      const std::string bytes = inflate_all(stream, where, kLimit);
      RValue value = RReader(bytes, where).read();
      if (!value.strings.empty()) result[variables.names[k]] = std::move(value.strings);
    }
  }
  return result;
}

}  // namespace whit
