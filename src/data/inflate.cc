#include "data/inflate.h"

#include <zlib.h>

#include <memory>

#include "base/error.h"

namespace whit {

std::string inflate_all(std::span<const std::byte> bytes, const std::string& where, size_t limit) {
  constexpr int kAnyHeader = MAX_WBITS + 32;  // zlib or gzip, found out by zlib
  z_stream stream{};
  if (inflateInit2(&stream, kAnyHeader) != Z_OK) throw Error(ErrorKind::internal, "zlib cannot start", where);
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> guard(&stream, inflateEnd);
  if (bytes.size() > 0xffffffffu) throw Error(ErrorKind::input, "the compressed data is too large", where);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  char buffer[1 << 16];
  int status = Z_OK;
  while (status != Z_STREAM_END) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    status = inflate(&stream, Z_NO_FLUSH);
    const size_t got = sizeof buffer - stream.avail_out;
    out.append(buffer, got);
    if (status != Z_STREAM_END && (status != Z_OK || (got == 0 && stream.avail_in == 0)))
      throw Error(ErrorKind::input, "the compressed data is damaged or cut off", where,
                  stream.msg ? stream.msg : "it ends early");
    if (out.size() > limit)
      throw Error(ErrorKind::input, "the compressed data is too large", where,
                  "more than " + std::to_string(limit) + " bytes");
  }
  return out;
}

}  // namespace whit
