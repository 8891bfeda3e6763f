// Tables of what the API gives in pages.

import { html, useLayoutEffect, useRef } from "../vendor/htm-preact.js";

// `columns` are {title, render(row), sort: the property it is sorted by, if it is, wide: not shown on a phone,
// number: set to the right}. `sort` is {property, order: "ASC" or "DESC"}, `onSort(sort)`; `keyOf(row)` tells rows
// apart; `empty` is said when there are none.
export function Table({ label, columns, rows, keyOf, sort, onSort, empty = "There are none." }) {
  const region = useRef(null);
  const focused = region.current?.contains(document.activeElement);
  useLayoutEffect(() => {
    if (focused && document.activeElement === document.body) region.current.focus(); // its row is gone
  });
  return html`
    <div class="scroll" role="region" aria-label=${label} tabindex="0" ref=${region}>
      <table>
        <thead><tr>${columns.map((column) => html`<${Head} key=${column.title} ...${{ column, sort, onSort }} />`)}</tr></thead>
        <tbody>
          ${rows.map((row) => html`
            <tr key=${keyOf(row)}>
              ${columns.map((column) => html`<td key=${column.title} class=${classOf(column)}>${column.render(row)}</td>`)}
            </tr>`)}
        </tbody>
      </table>
      ${rows.length === 0 && html`<p class="quiet">${empty}</p>`}
    </div>
  `;
}

function Head({ column, sort, onSort }) {
  if (!column.sort || !onSort) return html`<th scope="col" class=${classOf(column)}>${column.title}</th>`;
  const mine = sort?.property === column.sort;
  const order = mine && sort.order === "ASC" ? "DESC" : "ASC";
  const said = { ASC: "ascending", DESC: "descending" };
  return html`
    <th scope="col" class=${classOf(column)} aria-sort=${mine ? said[sort.order] : undefined}>
      <button class="sort" onClick=${() => onSort({ property: column.sort, order })}>
        ${column.title}<span aria-hidden="true">${mine ? (sort.order === "ASC" ? " ↑" : " ↓") : ""}</span>
      </button>
    </th>
  `;
}

function classOf({ wide, number }) {
  return [wide && "wide", number && "number"].filter(Boolean).join(" ") || undefined;
}

// To the page before and after; `page` counts from 0, `of` is the API's PageData, `onPage(number)`.
export function Pager({ page, of, onPage }) {
  if (!of || of.totalPages <= 1) return null;
  return html`
    <nav class="pager" aria-label="Pages of the list">
      <button disabled=${page === 0} onClick=${() => onPage(page - 1)}>Previous</button>
      <span>${page + 1} of ${of.totalPages}</span>
      <button disabled=${!of.hasNext} onClick=${() => onPage(page + 1)}>Next</button>
      <span class="quiet">${of.totalElements} in all</span>
    </nav>
  `;
}
