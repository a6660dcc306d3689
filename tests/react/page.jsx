// All hooks on one page, in StrictMode. What is to be shown is in the address: {token, rooms}.
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { ChatAPI } from "chatapi-js";
import { ChatAPIProvider, useConnection, useMessages, usePresence, useRoom, useTyping, useUnread } from "chatapi-js/react";

const { token, rooms } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const chat = new ChatAPI({ url: location.origin, token });
window.commits = { room: 0, typing: 0 };
window.mixed = 0; // renders of a room with messages of another one
window.texts = []; // of the last message, in each commit

function Line({ roomId }) {
  const { typists, setTyping } = useTyping(roomId);
  useEffect(() => { window.commits.typing++; });
  return <p><input aria-label="type" onChange={() => setTyping()} /><output className="typists">{typists.join(" ")}</output></p>;
}

function Row({ message, retry, discard, edit, remove, react }) {
  const { key, status, message_id: id, content, reactions, edited_at: edited, error } = message;
  return (
    <li data-status={status} data-error={error?.code}>
      <span className="text">{content ?? "(deleted)"}</span>{edited && " (edited)"}
      {reactions?.map(({ emoji, count }) => <b key={emoji}>{emoji}{count}</b>)}
      {status === "failed" && <><button onClick={() => retry(key)}>retry</button><button onClick={() => discard(key)}>discard</button></>}
      {status === "sent" && content === "mine" && <>
        <button onClick={() => edit(id, "mine, changed")}>edit</button><button onClick={() => react(id, "👍")}>like</button>
      </>}
      {status === "sent" && content === "mine, changed" && <button onClick={() => remove(id)}>delete</button>}
    </li>
  );
}

function Room({ roomId }) {
  const { messages, send, loadOlder, loadNewer, showNewest, ...shown } = useMessages(roomId);
  const { room, error } = useRoom(roomId);
  const { online } = usePresence(roomId);
  const { count, mentions, markRead } = useUnread(roomId);
  window.api = { send, loadOlder, loadNewer, showNewest };
  window.mixed += messages.some((message) => message.room_id !== roomId);
  useEffect(() => {
    window.commits.room++;
    window.texts.push(messages.at(-1)?.content);
  });
  return (
    <main data-room={roomId} data-older={shown.hasOlder} data-newer={shown.hasNewer} data-loading={shown.isLoading}>
      <h1>{room?.name}</h1><output className="members">{room?.member_count}</output>
      <output className="online">{online.join(" ")}</output>
      <output className="unread">{count} {mentions}</output>
      <output className="error">{shown.error?.code} {error?.code}</output>
      <ol>{messages.map((message) => <Row key={message.key} message={message} {...shown} />)}</ol>
      <button onClick={() => send("mine")}>send</button>
      <button onClick={() => markRead()}>read</button>
    </main>
  );
}

function Page() {
  const [roomId, setRoomId] = useState(rooms[0]);
  const { state, connection } = useConnection();
  window.connection = connection;
  const all = useUnread();
  window.show = (index) => setRoomId(rooms[index]);
  return (
    <>
      <output className="state">{state}</output><output className="total">{all.count}</output>
      <Room roomId={roomId} /><Line roomId={roomId} />
    </>
  );
}

// As a hot reload does it: everything goes, and comes again.
function Mount() {
  const [key, setKey] = useState(0);
  window.remount = () => setKey((before) => before + 1);
  return <ChatAPIProvider key={key} client={chat}><Page /></ChatAPIProvider>;
}

createRoot(document.getElementById("root")).render(<StrictMode><Mount /></StrictMode>);
