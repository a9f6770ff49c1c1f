// Reading the JSON files of a tokenizer: members by name, values of the wanted kind or an error that shows what is
// there.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace whit::tokenizer_json {

using nlohmann::json;  // sorted maps: vocabularies have 10^5 keys

// Dumped, and cut where it is long.
std::string shown(const json& value);
[[noreturn]] void refuse(const std::string& what, const std::string& where, const json& found,
                         const std::string& hint = {});

// null where it is absent, or `object` is none.
const json& member(const json& object, const char* key);
bool boolean(const json& object, const char* key, bool fallback, const std::string& where);
const std::string& text_of(const json& value, const std::string& where);
int32_t id_of(const json& value, const std::string& where);
bool is_type(const json& step, std::string_view name);

}  // namespace whit::tokenizer_json
