"""A room's last messages, as a model is told of them."""

from chatapi.cli.agent.desk import Question
from chatapi.client import ChatAPI
from chatapi.client.records import Message

Prompt = list[dict[str, str]]
"""Messages in the form of OpenAI's chat completions; the last one is the question."""


async def read_prompt(
    client: ChatAPI, user_id: str, question: Question, *, limit: int, system_prompt: str
) -> Prompt | None:
    """The question, and before it messages of the room, or of its thread: at most `limit` in all. None if the question
    was deleted meanwhile. Raises ApiError, NoAnswer."""
    room_id, thread_id = question.room_id, question.thread_id
    page = await client.list_messages(
        room_id,
        before_seq=question.seq + 1,
        limit=limit,
        thread_id=thread_id,
        top_level=None if thread_id else True,
    )
    messages = page["messages"]
    if not messages or messages[-1]["message_id"] != question.message_id or messages[-1]["content"] is None:
        return None
    if thread_id and len(messages) < limit:
        messages.insert(0, await client.get_message(room_id, thread_id))
    messages = [message for message in messages if message["content"] and not _has_failed(message)]
    names = await _read_names(client, {message["sender_id"] for message in messages} - {user_id})
    prompt = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for message in messages:
        sender_id, content = message["sender_id"], message["content"] or ""
        if sender_id == user_id:
            prompt.append({"role": "assistant", "content": content})
        else:
            prompt.append({"role": "user", "content": f"{names.get(sender_id, sender_id)}: {content}"})
    return prompt


async def _read_names(client: ChatAPI, user_ids: set[str]) -> dict[str, str]:
    """Of those who have one in their profile."""
    users = (await client.list_users(sorted(user_ids)))["users"] if user_ids else []
    return {user["user_id"]: user["name"] for user in users if user["name"]}


def _has_failed(message: Message) -> bool:
    """It broke off, and may lack what matters."""
    return "stream" in message and message["stream"]["state"] == "failed"
