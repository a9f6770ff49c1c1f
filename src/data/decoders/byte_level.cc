#include "data/decoders/byte_level.h"

#include "data/unicode.h"

namespace whit {
namespace {

struct Alphabet {
  std::array<char32_t, 256> letters{};
  std::array<int16_t, 512> bytes{};  // by code point, -1 where it is no letter
  Alphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      letters[byte] = visible ? static_cast<char32_t>(byte) : next++;
      bytes[letters[byte]] = static_cast<int16_t>(byte);
    }
  }
};
const Alphabet& alphabet() noexcept {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::array<char32_t, 256>& byte_level_letters() noexcept { return alphabet().letters; }

std::string byte_level_bytes(std::string_view token) {
  const auto& bytes = alphabet().bytes;
  std::string out;
  for (std::string_view rest = token; !rest.empty();) {
    const CodePoint point = next_code_point(rest);
    if (point.value >= bytes.size() || bytes[point.value] < 0) return std::string(token);
    out.push_back(static_cast<char>(bytes[point.value]));
    rest.remove_prefix(point.length);
  }
  return out;
}

}  // namespace whit
