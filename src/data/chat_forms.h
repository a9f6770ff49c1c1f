// The table of chat templates: how each writes a conversation, and by which of its expressions it is recognised.
#pragma once

#include <array>
#include <span>
#include <string_view>

namespace whit {

// Where a system message goes.
enum class SystemPlace {
  turn,        // a turn of its own, wherever it stands
  always,      // the first turn, written even when there is no such message
  header,      // the first turn, below lines on the date and on thinking (SmolLM3)
  first_user,  // one at the start, put before the first user's text
  last_user,   // one at the start, put before the last user's text
  nowhere,     // the template refuses it or leaves it out
};

enum class Trim { no, yes, as_written };  // as_written: where the template's text says so

struct ChatTurn {
  std::string_view before, after;
  Trim trim = Trim::no;
};

// How a template writes a conversation. A template has this form when it contains all marks and none of the absent
// ones, both compared as normalized() leaves them; of several rows that fit the first is taken.
struct ChatForm {
  std::string_view name;  // rows with the same name differ in their marks only
  std::array<std::string_view, 4> marks;
  std::array<std::string_view, 4> absent;
  std::string_view begin;  // BOS
  SystemPlace place;
  ChatTurn system, user, assistant;
  std::string_view answer;      // what opens the answer
  std::string_view no_thought;  // the same with thinking off, "" where there is no such switch
  bool alternates;              // user and assistant take turns, or the template refuses
  bool drops_thoughts;          // of earlier answers only what follows </think> is written
  std::array<std::string_view, 2> stops;
};

std::span<const ChatForm> chat_forms() noexcept;

}  // namespace whit
