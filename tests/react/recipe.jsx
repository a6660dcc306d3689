// A page around the recipe of docs/recipes.md: a button for each room, and the room.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { ChatProvider, Room } from "./chat.jsx";

const rooms = JSON.parse(document.getElementById("rooms").textContent);

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
