// A page around the hook of docs/recipes.md: a button per room, the room's messages, a box to write in.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { ChatProvider, useRoom } from "./chat.jsx";

const rooms = JSON.parse(document.getElementById("rooms").textContent);
window.renders = []; // what was ever shown, as [the room asked for, the messages' rooms]

function Room({ roomId }) {
  const { messages, error, send } = useRoom(roomId);
  window.renders.push([roomId, messages.map((message) => message.room_id ?? roomId)]);
  return (
    <main data-room={roomId}>
      <ol>{messages.map((message) => <li key={message.message_id}>{message.content ?? "(deleted)"}</li>)}</ol>
      <p>{error?.code}</p>
      <button onClick={() => send("from the page")}>send</button>
    </main>
  );
}

function Page() {
  const [roomId, setRoomId] = useState(rooms[0]);
  return (
    <>
      {rooms.map((id, index) => <button key={id} onClick={() => setRoomId(id)}>{`room ${index}`}</button>)}
      <Room roomId={roomId} />
    </>
  );
}

createRoot(document.getElementById("root")).render(<StrictMode><ChatProvider><Page /></ChatProvider></StrictMode>);
